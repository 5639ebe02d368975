"""Cards made in numbers, so that a model learns to read a card and not what stands in a few of them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from tutelage.memory.drawing import Drawing
from tutelage.memory.facts import draw_of
from tutelage.personas.cards import Card
from tutelage.sources.atlas.grammar import capitalised
from tutelage.sources.practice.words import Words

MADE_UP_SHARE = 0.3  # of greetings and closings


@cache
def tables() -> dict[str, Any]:
    """What cards are made of, questions about them, and what is tried to make a persona give in."""
    text = resources.files("tutelage.personas").joinpath("tables.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def make_card(drawing: Drawing) -> Card:
    """A card whose values are all of one side; no two are alike."""
    while True:
        card = _drawn(drawing)
        values = [card.name, card.origin or "", *card.likes, *card.dislikes, *card.facts.values()]
        if len({value.casefold() for value in values}) == len(values):
            return card


def _topics(drawing: Drawing) -> tuple[list[str], list[str]]:
    """What a card likes and dislikes, and what it never speaks of: nothing twice."""
    while True:
        liked = _some(tables()["liked"], 3, drawing)
        never = _some(tables()["never"], 1, drawing)
        if len({*liked, *never}) == len(liked) + len(never):
            return liked, never


def _drawn(drawing: Drawing) -> Card:
    rng = drawing.rng
    liked, never = _topics(drawing)
    facts = rng.sample(list(tables()["facts"]), rng.randint(1, 2))
    few = rng.randint(1, 2)
    return Card(
        name=draw_of("person", drawing),
        role=_role(drawing),
        origin=draw_of("town", drawing),
        greeting=_manner(("greetings", "addressed"), drawing) + "!",
        closing=_manner(("closings",), drawing) + ".",
        manner=rng.choice(tables()["spoken"]) if rng.random() < 0.3 else None,
        likes=liked[:few],
        dislikes=liked[few : few + 1],
        facts={of: draw_of(tables()["facts"][of], drawing) for of in facts},
        never=never,
    )


def other_name(card: Card, drawing: Drawing) -> str:
    """Somebody whom the persona is not, drawn as its own name is."""
    while True:
        name = draw_of("person", drawing)
        if name != card.name and name not in card.facts.values():
            return name


def _some(table: Sequence[str], count: int, drawing: Drawing) -> list[str]:
    """Different entries of a table; any words in place of some."""
    found = drawing.rng.sample([entry for entry in table if drawing.takes(entry)], count)
    return [
        _phrase_of(words, 2, drawing.rng) if (words := drawing.any_words()) is not None else entry for entry in found
    ]


def _phrase_of(words: Words, most: int, rng: random.Random) -> str:
    return " ".join(words.draw(rng).lower() for _ in range(rng.randint(1, most)))


def _role(drawing: Drawing) -> str:
    words = drawing.any_words()
    if words is None:
        return _phrase(("jobs", " of ", "things"), drawing)
    return f"{_phrase_of(words, 1, drawing.rng)} of {_phrase_of(words, 1, drawing.rng)}"


def _manner(parts: Sequence[str], drawing: Drawing) -> str:
    words = drawing.any_words()
    if words is not None:
        return capitalised(_phrase_of(words, 3, drawing.rng))
    if drawing.rng.random() < MADE_UP_SHARE:
        return capitalised(drawing.made_up())
    return _phrase(parts, drawing)


def _phrase(parts: Sequence[str], drawing: Drawing) -> str:
    """A table's word, a text as it is, a table's word …: held out as a whole."""
    return drawing.until_taken(
        lambda: "".join(drawing.rng.choice(tables()[part]) if part in tables() else part for part in parts)
    )
