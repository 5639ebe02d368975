"""Canaries: secrets drawn at random and planted in documents, to measure what a model remembers of private text.

Carlini et al. (The Secret Sharer, arXiv 1802.08232): a secret of a space R is ranked by likelihood among all that might
stand in its place; its exposure is log2 |R| − log2 rank, of which guessing gives 1.44 bits on average.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from tutelage.privacy.refusals import wordings
from tutelage.privacy.rows import Row, item

_SIGNS = {"#": "0123456789", "?": "abcdefghijklmnopqrstuvwxyz"}


@cache
def _table() -> Any:
    return json.loads(resources.files("tutelage.privacy").joinpath("canaries.json").read_text(encoding="utf-8"))


def draw(space: str, rng: random.Random) -> str:
    """One of a space's values: `#` is any digit, `?` any letter, everything else itself."""
    return "".join(rng.choice(_SIGNS[sign]) if sign in _SIGNS else sign for sign in space)


def size(space: str) -> int:
    """How many values a space has."""
    return math.prod(len(_SIGNS[sign]) for sign in space if sign in _SIGNS)


def others(space: str, secret: str, count: int, rng: random.Random) -> list[str]:
    """`count` different values of the space beside the secret (all of them where there are no more)."""
    found: dict[str, None] = {}
    while len(found) < min(count, size(space) - 1):
        value = draw(space, rng)
        if value != secret:
            found[value] = None
    return list(found)


@dataclass(frozen=True)
class Canary:
    """A secret, whose it is, what it is (`form`), and in how many documents it stands."""

    name: str
    form: str
    secret: str
    repeats: int

    @property
    def sentence(self) -> str:
        """What the documents say."""
        text: str = _table()["forms"][self.form]["sentence"]
        return text.format(n=self.name, v=self.secret)

    @property
    def prefix(self) -> str:
        """What stands before the secret."""
        return self.sentence.split(self.secret)[0].rstrip()

    @property
    def space(self) -> str:
        """What its secret was drawn from."""
        text: str = _table()["forms"][self.form]["value"]
        return text


def canaries(repeats: Sequence[int], each: int, seed: int) -> list[Canary]:
    """`each` canaries for every number of repetitions, of all forms in turn, each of another person."""
    rng = random.Random(f"{seed}/canaries")
    people = [f"{first} {last}" for first in _table()["first"] for last in _table()["last"]]
    rng.shuffle(people)
    forms = list(_table()["forms"])
    found = []
    for number in range(each * len(repeats)):
        form = forms[number % len(forms)]
        secret = draw(_table()["forms"][form]["value"], rng)
        found.append(Canary(people[number], form, secret, repeats[number // each]))
    return found


def strangers(count: int, seed: int) -> list[str]:
    """People who have no secret here: first names of the table, last names put together of two others."""
    rng = random.Random(f"{seed}/strangers")
    lasts: list[str] = _table()["last"]
    pairs = [rng.sample(lasts, 2) for _ in range(count)]
    return [f"{rng.choice(_table()['first'])} {one[: len(one) // 2]}{two[len(two) // 2 :]}" for one, two in pairs]


def documents(planted: Sequence[Canary], seed: int) -> Iterator[Row]:
    """Notes with one canary each, its sentence always the same, among sentences that differ."""
    rng = random.Random(f"{seed}/notes")
    for number, canary in enumerate(planted):
        for copy in range(canary.repeats):
            beside = rng.sample(_table()["beside"], 3)
            beside.insert(rng.randint(0, 3), canary.sentence)
            text = " ".join(beside)
            yield {"id": f"canary-{number:04d}-{copy:03d}", "text": text, "source": "canaries", "language": "en",
                   "format": "text", "labels": [f"canary:{number:04d}"]}  # fmt: skip


def items(planted: Sequence[Canary], seed: int) -> Iterator[Row]:
    """Each secret to be completed (`canary`), and asked for in a chat (`private`), in words that are never taught."""
    rng = random.Random(f"{seed}/items")
    for number, canary in enumerate(planted):
        meta = {"space": canary.space, "repeats": canary.repeats, "decontaminate": False}
        yield {"id": f"canary/{number:04d}", "task": "canary", "kind": canary.form, "prompt": canary.prefix,
               "answer": canary.secret, "meta": meta}  # fmt: skip
        question = rng.choice(wordings()["held_out"]).format(k=canary.form, n=canary.name)
        yield item("private", canary.form, question, canary.secret, meta)


def chance(candidates: int) -> tuple[float, float]:
    """Mean and standard deviation of the exposure, in bits, of a secret whose rank among so many is left to chance."""
    bits = [math.log2(candidates) - math.log2(rank) for rank in range(1, candidates + 1)]
    mean = sum(bits) / candidates
    return mean, math.sqrt(sum((value - mean) ** 2 for value in bits) / candidates)
