"""Words to be copied: made-up ones, and those of a text; a share of all is never learnt."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable

from tutelage.sources.practice.rows import is_held_out

HELD_OUT_SHARE = 0.25
_ONSETS: tuple[str, ...] = (
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
_VOWELS: tuple[str, ...] = (*"aaeeiioou", "ai", "ea", "ee", "oo", "ou", "y")
_CODAS: tuple[str, ...] = ("", "", "", *"bdgklmnprstvx", "ck", "ld", "ng", "nt", "rd", "sh", "ss", "th")
_WORD = re.compile(r"[A-Za-z]{3,}")


def never_learnt(value: str) -> bool:
    """Whether a value, however it is written, is on the side that is never learnt."""
    return is_held_out(value.lower(), HELD_OUT_SHARE)


def made_up(rng: random.Random, held_out: bool) -> str:
    """A word of one to three syllables that nobody knows: it can only be copied."""
    while True:
        word = "".join(_syllable(rng) for _ in range(rng.choice((1, 2, 2, 2, 3))))
        if len(word) > 2 and never_learnt(word) == held_out:
            return word


def _syllable(rng: random.Random) -> str:
    return rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)


class Words:
    """The words of texts that occur at least `least` times, to draw what is to be copied.

    A tokenizer has one token for many a word, and what was never copied is copied badly: so a word is also lengthened
    by a syllable, whereby its token is learnt in another word. The words that are held out are learnt only so.
    """

    def __init__(self, texts: Iterable[str], least: int = 1) -> None:
        counts = Counter(word for text in texts for word in _WORD.findall(text))
        self.every = [word for word, count in counts.items() if count >= least]
        self.learnt = [word for word in self.every if not never_learnt(word)]

    def draw(self, rng: random.Random) -> str:
        """A word, with a capital or without: of the texts, one of these lengthened, or a made-up one."""
        place = rng.random() if self.learnt else 1.0
        word: str
        if place < 0.4:
            word = rng.choice(self.learnt)
        elif place < 0.7:
            word = self._lengthened(rng)
        else:
            word = made_up(rng, held_out=False)
        return word.capitalize() if rng.random() < 0.5 else word

    def _lengthened(self, rng: random.Random) -> str:
        while True:
            word: str = rng.choice(self.every) + _syllable(rng)
            if not never_learnt(word) and word not in self.every:
                return word
