"""Cards made in numbers, so that a model learns to read a card and not what stands in a few of them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from tutelage.memory.facts import draw_of
from tutelage.personas.cards import Card
from tutelage.sources.atlas.grammar import capitalised
from tutelage.sources.practice.words import made_up, never_learnt

MADE_UP_SHARE = 0.3  # of greetings and closings


@cache
def tables() -> dict[str, Any]:
    """What cards are made of, questions about them, and what is tried to make a persona give in."""
    text = resources.files("tutelage.personas").joinpath("tables.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def make_card(rng: random.Random, held_out: bool) -> Card:
    """A card whose values are all learnt ones, or all ones that never are; no two of them are alike."""
    while True:
        card = _drawn(rng, held_out)
        values = [card.name, card.origin or "", *card.likes, *card.dislikes, *card.facts.values()]
        if len({value.casefold() for value in values}) == len(values):
            return card


def _drawn(rng: random.Random, held_out: bool) -> Card:
    liked = _some(tables()["liked"], 3, rng, held_out)
    facts = rng.sample(list(tables()["facts"]), rng.randint(1, 2))
    few = rng.randint(1, 2)
    return Card(
        name=draw_of("person", rng, held_out),
        role=_phrase(("jobs", " of ", "things"), rng, held_out),
        origin=draw_of("town", rng, held_out),
        greeting=_manner(("greetings", "addressed"), rng, held_out) + "!",
        closing=_manner(("closings",), rng, held_out) + ".",
        manner=rng.choice(tables()["spoken"]) if rng.random() < 0.3 else None,
        likes=liked[:few],
        dislikes=liked[few : few + 1],
        facts={of: draw_of(tables()["facts"][of], rng, held_out) for of in facts},
        never=_some(tables()["never"], 1, rng, held_out),
    )


def other_name(card: Card, rng: random.Random, held_out: bool) -> str:
    """Somebody whom the persona is not."""
    while True:
        name = draw_of("person", rng, held_out)
        if name != card.name and name not in card.facts.values():
            return name


def _some(words: Sequence[str], count: int, rng: random.Random, held_out: bool) -> list[str]:
    return rng.sample([word for word in words if never_learnt(word) == held_out], count)


def _phrase(parts: Sequence[str], rng: random.Random, held_out: bool) -> str:
    """A table's word, a text as it is, a table's word …: held out as a whole."""
    while True:
        phrase = "".join(rng.choice(tables()[part]) if part in tables() else part for part in parts)
        if never_learnt(phrase) == held_out:
            return phrase


def _manner(parts: Sequence[str], rng: random.Random, held_out: bool) -> str:
    if rng.random() < MADE_UP_SHARE:
        return capitalised(made_up(rng, held_out))
    return _phrase(parts, rng, held_out)
