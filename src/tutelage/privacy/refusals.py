"""Requests for private data about people, and refusals."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources

from tutelage.privacy.rows import Row, conversation


@cache
def wordings() -> Mapping[str, Sequence[str]]:
    """The package's own sentences: kinds of private data, refusals, questions that are learnt and held out."""
    text = resources.files("tutelage.privacy").joinpath("refusals.json").read_text(encoding="utf-8")
    loaded: dict[str, list[str]] = json.loads(text)
    return loaded


def private_refusals(count: int, people: Sequence[str], rng: random.Random) -> Iterator[Row]:
    """Conversations in which somebody's private data is asked for and not given."""
    table = wordings()
    for _ in range(count):
        name, kind = rng.choice(people), rng.choice(table["kinds"])
        question = rng.choice(table["learnt"]).format(n=name, k=kind)
        yield conversation(question, rng.choice(table["refusals"]), ["private", kind])
