"""Words to be copied: made-up ones, and those of a text; a share of all is never learnt."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable

from tutelage.sources.practice.rows import is_held_out

HELD_OUT_SHARE = 0.25
_ONSETS = (
    "",
    *"bcdfghjklmnprstvwyz",
    "br",
    "ch",
    "cl",
    "dr",
    "fl",
    "gr",
    "kn",
    "pl",
    "qu",
    "sh",
    "sl",
    "st",
    "th",
    "tr",
)
_VOWELS = (*"aaeeiioou", "ai", "ea", "ee", "oo", "ou", "y")
_CODAS = ("", "", "", *"bdgklmnprstvx", "ck", "ld", "ng", "nt", "rd", "sh", "ss", "th")
_WORD = re.compile(r"[A-Za-z]{3,}")


def made_up(rng: random.Random, held_out: bool) -> str:
    """A word of one to three syllables that nobody knows: it can only be copied."""
    while True:
        count = rng.choice((1, 2, 2, 2, 3))
        word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count))
        if len(word) > 2 and never_learnt(word) == held_out:
            return word


def never_learnt(value: str) -> bool:
    """Whether a value, however it is written, is on the side that is never learnt."""
    return is_held_out(value.lower(), HELD_OUT_SHARE)


def words_of(texts: Iterable[str], least: int = 1) -> list[str]:
    """The words of texts that occur at least so often, without those that are held out."""
    counts = Counter(word for text in texts for word in _WORD.findall(text))
    return [word for word, count in counts.items() if count >= least and not never_learnt(word)]
