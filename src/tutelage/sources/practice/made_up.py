"""Words that nobody knows: what is copied cannot have been learnt by heart."""

from __future__ import annotations

import random

from tutelage.sources.practice.rows import is_held_out

_SYLLABLES = ("ba", "ki", "lo", "mer", "nu", "pa", "ri", "sol", "ta", "vim", "zor", "fen", "gal", "hin", "dro", "tes")


def made_up(rng: random.Random) -> str:
    """Two or three syllables."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3)))


def made_up_of(rng: random.Random, share: float, held_out: bool) -> str:
    """A made-up word that is among the held-out `share` of them, or that is not."""
    while True:
        word = made_up(rng)
        if is_held_out(word, share) == held_out:
            return word
