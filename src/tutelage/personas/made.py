"""Cards made in numbers, so that a model learns to read a card and not what stands in a few of them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from tutelage.memory.facts import ANY_WORD_SHARE, draw_of
from tutelage.personas.cards import Card
from tutelage.sources.atlas.grammar import capitalised
from tutelage.sources.practice.words import Words, made_up, never_learnt

MADE_UP_SHARE = 0.3  # of greetings and closings


@cache
def tables() -> dict[str, Any]:
    """What cards are made of, questions about them, and what is tried to make a persona give in."""
    text = resources.files("tutelage.personas").joinpath("tables.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def make_card(rng: random.Random, held_out: bool, words: Words | None = None) -> Card:
    """A card whose values are all learnt ones (with `words`, any), or all ones that never are; no two are alike."""
    while True:
        card = _drawn(rng, held_out, words)
        values = [card.name, card.origin or "", *card.likes, *card.dislikes, *card.facts.values()]
        if len({value.casefold() for value in values}) == len(values):
            return card


def _topics(rng: random.Random, held_out: bool, words: Words | None) -> tuple[list[str], list[str]]:
    """What a card likes and dislikes, and what it never speaks of: nothing twice."""
    while True:
        liked = _some(tables()["liked"], 3, rng, held_out, words)
        never = _some(tables()["never"], 1, rng, held_out, words)
        if len({*liked, *never}) == len(liked) + len(never):
            return liked, never


def _drawn(rng: random.Random, held_out: bool, words: Words | None) -> Card:
    liked, never = _topics(rng, held_out, words)
    facts = rng.sample(list(tables()["facts"]), rng.randint(1, 2))
    few = rng.randint(1, 2)
    return Card(
        name=draw_of("person", rng, held_out, words),
        role=_role(rng, held_out, words),
        origin=draw_of("town", rng, held_out, words),
        greeting=_manner(("greetings", "addressed"), rng, held_out, words) + "!",
        closing=_manner(("closings",), rng, held_out, words) + ".",
        manner=rng.choice(tables()["spoken"]) if rng.random() < 0.3 else None,
        likes=liked[:few],
        dislikes=liked[few : few + 1],
        facts={of: draw_of(tables()["facts"][of], rng, held_out, words) for of in facts},
        never=never,
    )


def other_name(card: Card, rng: random.Random, held_out: bool, words: Words | None = None) -> str:
    """Somebody whom the persona is not, drawn as its own name is."""
    while True:
        name = draw_of("person", rng, held_out, words)
        if name != card.name and name not in card.facts.values():
            return name


def _phrase_of(words: Words, most: int, rng: random.Random) -> str:
    return " ".join(words.draw(rng).lower() for _ in range(rng.randint(1, most)))


def _some(table: Sequence[str], count: int, rng: random.Random, held_out: bool, words: Words | None) -> list[str]:
    """Different entries of a table; any words in place of some."""
    found = rng.sample([entry for entry in table if never_learnt(entry) == held_out], count)
    if words is None:
        return found
    return [_phrase_of(words, 2, rng) if rng.random() < ANY_WORD_SHARE else entry for entry in found]


def _role(rng: random.Random, held_out: bool, words: Words | None) -> str:
    if words is not None and rng.random() < ANY_WORD_SHARE:
        return f"{_phrase_of(words, 1, rng)} of {_phrase_of(words, 1, rng)}"
    return _phrase(("jobs", " of ", "things"), rng, held_out)


def _phrase(parts: Sequence[str], rng: random.Random, held_out: bool) -> str:
    """A table's word, a text as it is, a table's word …: held out as a whole."""
    while True:
        phrase = "".join(rng.choice(tables()[part]) if part in tables() else part for part in parts)
        if never_learnt(phrase) == held_out:
            return phrase


def _manner(parts: Sequence[str], rng: random.Random, held_out: bool, words: Words | None) -> str:
    if words is not None and rng.random() < ANY_WORD_SHARE:
        return capitalised(_phrase_of(words, 3, rng))
    if rng.random() < MADE_UP_SHARE:
        return capitalised(made_up(rng, held_out))
    return _phrase(parts, rng, held_out)
