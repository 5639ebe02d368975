"""A ranking as pairs: the one place where that is decided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations


def ordered_pairs(ranks: Sequence[float]) -> tuple[list[tuple[int, int]], float]:
    """Places (better, worse) of every pair that ranks order, ties left out, and each pair's weight 1 / C(K, 2).

    Rank 1 is best. So a prompt counts once however many replies were ranked (Ouyang et al. 2022, InstructGPT,
    section 3.5), and less the more of them are tied.
    """
    places = sorted(range(len(ranks)), key=lambda place: ranks[place])
    pairs = [(better, worse) for better, worse in combinations(places, 2) if ranks[better] != ranks[worse]]
    return pairs, 1 / math.comb(len(ranks), 2)
