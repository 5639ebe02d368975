"""What a user may tell of himself: kinds of facts, their wordings, and values of which a share is never learnt."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from tutelage.memory.drawing import Drawing
from tutelage.sources.atlas.grammar import capitalised, expand

MADE_UP_SHARE = 0.5  # of the values that can be made up
_NAMES = ("person", "pet", "town")
_OWN = ("time", "day", "number")  # forms of their own


@cache
def tables() -> dict[str, Any]:
    """`facts` (kinds and their wordings), wordings of every kind, `values`, and `small_talk`."""
    text = resources.files("tutelage.memory").joinpath("tables.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def kinds() -> list[str]:
    """The kinds of facts."""
    return list(tables()["facts"])


@dataclass(frozen=True)
class Fact:
    """One thing that is true of the user."""

    kind: str
    value: str

    @property
    def of(self) -> str:
        """What it is of the user's: "name", "dog's name"."""
        name: str = tables()["facts"][self.kind]["of"]
        return name

    def told(self, rng: random.Random, correcting: bool = False) -> str:
        """As the user says it; when correcting, as what counts from now on."""
        field = "corrected" if correcting else "told"
        frames = tables()["facts"][self.kind][field] if rng.random() < 0.6 else tables()[field]
        return self._say(rng.choice(frames), rng)

    def said(self, field: str, rng: random.Random) -> str:
        """One of the wordings of a field of the tables: `asked`, `noted`, `forget`, `answer`, `unknown`, `note`."""
        frames = tables()[field]
        return self._say(frames if isinstance(frames, str) else rng.choice(frames), rng)

    def _say(self, frame: str, rng: random.Random) -> str:
        return expand(frame, {"of": self.of, "v": self.value}, rng)


def draw_value(kind: str, drawing: Drawing) -> str:
    """A value for a kind of fact."""
    return draw_of(tables()["facts"][kind]["value"], drawing)


def draw_of(sort: str, drawing: Drawing) -> str:
    """A name, a colour, a time …"""
    rng, values = drawing.rng, tables()["values"]
    words = None if sort in _OWN else drawing.any_words()
    if words is not None:
        word = words.draw(rng)
        return capitalised(word) if sort in _NAMES else word.lower()
    if sort in _NAMES and rng.random() < MADE_UP_SHARE:
        return capitalised(drawing.made_up())
    if sort == "time":
        return drawing.until_taken(lambda: f"{rng.choice(values['day'])} at {rng.choice(values['hour'])}")
    if sort == "number":
        return drawing.until_taken(lambda: str(rng.randint(10, 999)))
    return drawing.until_taken(lambda: rng.choice(values[sort]))


def draw_facts(count: int, drawing: Drawing) -> list[Fact]:
    """Facts of different kinds with different values."""
    found: list[Fact] = []
    for kind in drawing.rng.sample(kinds(), count):
        value = draw_value(kind, drawing)
        while any(value == fact.value for fact in found):
            value = draw_value(kind, drawing)
        found.append(Fact(kind, value))
    return found
