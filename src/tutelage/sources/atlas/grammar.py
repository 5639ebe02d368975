"""Text with choices: `[a|b]` picks one, `{slot}` is filled from the context, else from the shared word tables."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

CHOICE = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{(\w+)\}")
# Words that a sentence may begin with and that lose their capital inside another sentence.
COMMON_STARTS = ("The", "A", "An", "In", "You", "Many", "Chemists")


@cache
def load(path: str) -> Any:
    """A JSON table of this package, by its path without the suffix (`words/voices`)."""
    text = resources.files("tutelage.sources.atlas").joinpath(path + ".json").read_text(encoding="utf-8")
    return json.loads(text)


def expand(template: str, context: Mapping[str, str], rng: random.Random) -> str:
    """Fill every slot and make every choice; a slot that the context lacks is drawn from the word tables.

    A table's slot gives a new word each time, a context's slot always the same.
    """
    tables: dict[str, list[str]] = load("words/tables")
    while CHOICE.search(template):
        template = CHOICE.sub(lambda found: rng.choice(found.group(1).split("|")), template)

    def fill(found: re.Match[str]) -> str:
        name = found.group(1)
        return context[name] if name in context else rng.choice(tables[name])

    text = SLOT.sub(fill, template)
    return mend_articles(text[:1].upper() + text[1:])


def mend_articles(text: str) -> str:
    """Turn "a orange" into "an orange" (and not "a university")."""
    text = re.sub(r"\b([Aa]) (?=(?:[aeioAEIO]|u[^ns]|un[^i]|eigh)\w)", r"\1n ", text)
    return re.sub(r"\b([Aa])n (?=(?:one|once|uni|use|eu)\w*)", r"\1 ", text)


def capitalised(text: str) -> str:
    """The text with its first letter raised."""
    return text[:1].upper() + text[1:]


def inside(sentence: str, names: Sequence[str]) -> str:
    """The sentence as it reads after a lead such as "My book says that "; what is among `names` keeps its capital."""
    if sentence.startswith(tuple(name for name in names if name[:1].isupper())):
        return sentence
    starts = (*COMMON_STARTS, *(capitalised(name) for name in names))
    return (
        sentence[:1].lower() + sentence[1:] if sentence.startswith(tuple(f"{start} " for start in starts)) else sentence
    )


def article(noun: str) -> str:
    """ "a" or "an", by the sound of the noun."""
    return "an" if noun[:1].lower() in "aeiou" and not noun.lower().startswith(("uni", "eu")) else "a"
