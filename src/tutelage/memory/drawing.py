"""Where the values of facts and cards are drawn from: what is learnt, with any words beside, or what is held out."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tutelage.sources.practice.words import Words, made_up, never_learnt

ANY_WORD_SHARE = 0.6  # of the values to learn from: what has few values is known by heart, not copied


@dataclass(frozen=True)
class Drawing:
    """Draws from one side; with `words`, any of them take the place of many values that are learnt."""

    rng: random.Random
    held_out: bool
    words: Words | None = None

    def __post_init__(self) -> None:
        assert self.words is None or not self.held_out, "words are to be learnt from"

    def any_words(self) -> Words | None:
        """Words, one of which is to take a value's place, in most cases; None where the value's own sort is drawn."""
        return self.words if self.words is not None and self.rng.random() < ANY_WORD_SHARE else None

    def made_up(self) -> str:
        """A word that nobody knows."""
        return made_up(self.rng, self.held_out)

    def takes(self, value: str) -> bool:
        """Whether a value is on this side."""
        return never_learnt(value) == self.held_out

    def until_taken(self, draw: Callable[[], str]) -> str:
        """The first value drawn that is on this side."""
        while True:
            value = draw()
            if self.takes(value):
                return value
