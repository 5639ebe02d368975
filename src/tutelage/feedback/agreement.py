"""How far annotators agree, beyond what chance gives. What cannot be computed is None, never a number."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

Unit = Sequence[Any]
Distance = Callable[[Any, Any], float]


def krippendorff(units: Iterable[Unit], distance: Callable[[Mapping[Any, float]], Distance]) -> float | None:
    """α = 1 − D_observed / D_expected (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability).

    A unit holds the values that annotators gave to one thing; those with fewer than two values say nothing. None
    without two values to compare, or where all values are one: agreement on a constant cannot be told from chance.
    """
    coincidences: defaultdict[tuple[Any, Any], float] = defaultdict(float)
    for unit in units:
        for pair in permutations(unit, 2):
            coincidences[pair] += 1 / (len(unit) - 1)
    totals: defaultdict[Any, float] = defaultdict(float)
    for (value, _), count in coincidences.items():
        totals[value] += count
    n = sum(totals.values())
    if len(totals) < 2:
        return None
    apart = distance(totals)
    observed = sum(count * apart(a, b) for (a, b), count in coincidences.items())
    expected = sum(totals[a] * totals[b] * apart(a, b) for a, b in permutations(totals, 2)) / (n - 1)
    return 1 - observed / expected


def nominal(totals: Mapping[Any, float]) -> Distance:
    """Values are the same or they are not."""
    return lambda a, b: float(a != b)


def ordinal(totals: Mapping[Any, float]) -> Distance:
    """Squared number of values between two, their own counted half: (Σ_{g=a..b} n_g − (n_a + n_b) / 2)²."""
    values = sorted(totals)

    def apart(a: Any, b: Any) -> float:
        low, high = sorted((a, b))
        between = sum(totals[value] for value in values if low <= value <= high)
        return float((between - (totals[a] + totals[b]) / 2) ** 2)

    return apart


def cohen(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """κ = (p_o − p_e) / (1 − p_e) of two annotators' values (Cohen 1960); None where chance alone agrees always."""
    n = len(pairs)
    if not n:
        return None
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(first[value] * second[value] for value in first) / n**2
    agreed = sum(a == b for a, b in pairs) / n
    return None if chance == 1 else (agreed - chance) / (1 - chance)


def kendall_tau_b(first: Sequence[float], second: Sequence[float]) -> float | None:
    """τ-b = (C − D) / √((N − T₁)(N − T₂)), T the tied pairs of each (Kendall 1945); None if one ranking is all ties."""
    concordance = untied_first = untied_second = 0
    for i, j in combinations(range(len(first)), 2):
        a, b = sign(first[i] - first[j]), sign(second[i] - second[j])
        concordance += a * b
        untied_first += a != 0
        untied_second += b != 0
    if not (untied_first and untied_second):
        return None
    return concordance / math.sqrt(untied_first * untied_second)


def comparisons(ranks: Sequence[float]) -> dict[tuple[int, int], int]:
    """A ranking as values of pairs of places: 1 the first is better, −1 the second, 0 a tie (rank 1 is best).

    Each pair is there in both directions: agreement must not depend on which reply happens to be stored first.
    """
    return {(i, j): sign(ranks[j] - ranks[i]) for i, j in permutations(range(len(ranks)), 2)}


def sign(number: float) -> int:
    """−1, 0 or 1."""
    return (number > 0) - (number < 0)


def by_unit(values: Iterable[Mapping[Hashable, Any]]) -> dict[Hashable, list[Any]]:
    """What several annotators gave to each thing, from what each gave."""
    units: dict[Hashable, list[Any]] = {}
    for own in values:
        for unit, value in own.items():
            units.setdefault(unit, []).append(value)
    return units
