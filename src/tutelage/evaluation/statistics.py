"""Intervals for what evaluations count and average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A value with the interval that holds the truth at the stated confidence, and how many items it rests on."""

    value: float
    ci_low: float
    ci_high: float
    n: int


def wilson(successes: float, n: int, confidence: float = 0.95) -> Estimate:
    """A proportion with its score interval, which stays inside [0, 1] and honest near its ends (Wilson, 1927).

    `successes` may be fractional (a tie counts ½). With no items the value is undefined: an assertion.
    """
    assert n > 0, "a proportion of no items"
    assert 0 <= successes <= n, f"{successes} successes of {n}"
    p = successes / n
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    spread = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    centre = p + z * z / (2 * n)
    scale = 1 + z * z / n
    # at p = 0 and p = 1 the end is exact; rounding would leave the value a hair outside its own interval
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + spread) / scale)
    return Estimate(p, low, high, n)


def bootstrap_mean(values: Sequence[float], *, seed: int, resamples: int = 2000, confidence: float = 0.95) -> Estimate:
    """A mean with its percentile bootstrap interval (Efron, 1979); the same seed gives the same interval.

    Resampling is done in slices, so memory stays below `len(values)` × 256 numbers.
    """
    assert len(values) > 0, "a mean of no items"
    data_N = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = [
        data_N[rng.integers(0, len(data_N), size=(min(256, resamples - start), len(data_N)))].mean(axis=1)
        for start in range(0, resamples, 256)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(data_N.mean()), float(low), float(high), len(data_N))


def paired_win_rate(ours: Sequence[float], theirs: Sequence[float], confidence: float = 0.95) -> Estimate:
    """How often `ours[i]` scores above `theirs[i]` on the same prompt; a tie counts ½.

    The interval is Wilson's on wins + ½ ties. A variable in [0, 1] varies at most as much as a coin of the same mean,
    so with ties the interval is wider than it need be, never narrower.
    """
    assert len(ours) == len(theirs), f"{len(ours)} scores against {len(theirs)}"
    wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in zip(ours, theirs, strict=True))
    return wilson(wins, len(ours), confidence)
