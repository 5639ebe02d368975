"""Strengths of models from who was preferred to whom (Bradley and Terry 1952)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Wins = NDArray[np.float64]  # wins_MM[i, j]: how often i was preferred to j; a tie is half a win for both


@dataclass(frozen=True)
class Standing:
    """A model on the board: the log of its strength (their mean is 0), its interval, and its wins of its games.

    `expected` is the probability that it is preferred to an average model: σ(strength).
    """

    model: str
    strength: float
    interval: tuple[float, float] | None  # None: one item does not tell how another would differ
    wins: float
    games: float

    @property
    def expected(self) -> float:
        """Against a model of strength 0."""
        return float(1 / (1 + np.exp(-self.strength)))


def strengths(wins: Wins, prior: float = 0.0, tolerance: float = 1e-10, max_steps: int = 10_000) -> Wins:
    """log strengths (…, M) of mean 0 from wins (…, M, M), by the MM algorithm (Hunter 2004, Ann. Stat. 32, equation 3).

    p_i ← W_i / Σ_j n_ij / (p_i + p_j). `prior` is that many wins and as many defeats of every model against one of
    strength 1 that is in no row: with it the maximum exists even for a model that never lost.
    """
    games, won = wins + wins.swapaxes(-1, -2), wins.sum(-1) + prior
    p = np.ones_like(won)
    for _ in range(max_steps):
        expected = (games / (p[..., :, None] + p[..., None, :])).sum(-1) + 2 * prior / (p + 1)
        new = np.divide(won, expected, out=np.ones_like(p), where=expected > 0)
        new = np.maximum(new, 1e-300)  # a model that never won, without a prior: its strength has no lower bound
        if not prior:
            new /= np.exp(np.log(new).mean(-1, keepdims=True))
        moved = np.abs(np.log(new) - np.log(p)).max(initial=0.0)
        p = new
        if moved < tolerance:
            break
    logs: Wins = np.log(p)
    centred: Wins = logs - logs.mean(-1, keepdims=True)
    return centred


def groups(wins_MM: Wins) -> list[list[int]]:
    """Models that comparisons connect, directly or through others; strengths of two groups cannot be compared."""
    games_MM = wins_MM + wins_MM.T
    left, found = set(range(len(wins_MM))), []
    while left:
        start = min(left)
        left.remove(start)
        group, waiting = [start], deque([start])
        while waiting:
            near = [other for other in sorted(left) if games_MM[waiting[0], other]]
            waiting.popleft()
            left.difference_update(near)
            group += near
            waiting.extend(near)
        found.append(sorted(group))
    return found


def board(
    results: Sequence[Mapping[tuple[str, str], float]],
    *,
    seed: int,
    prior: float = 0.5,
    resamples: int = 200,
    confidence: float = 0.95,
) -> list[Standing]:
    """Standings, the strongest first. A result is what one item says: {(better, worse): wins}.

    Intervals are percentiles of a bootstrap over items (Efron 1979): what is said about one item is not independent.
    Of a single item there is none.
    """
    models = sorted({name for result in results for pair in result for name in pair})
    if not models:
        return []
    place = {name: number for number, name in enumerate(models)}
    wins_RMM = np.zeros((len(results), len(models), len(models)))
    for number, result in enumerate(results):
        for (better, worse), count in result.items():
            wins_RMM[number, place[better], place[worse]] += count
    total_MM = wins_RMM.sum(0)
    value_M = strengths(total_MM, prior)
    counts_SR = np.random.default_rng(seed).multinomial(len(results), [1 / len(results)] * len(results), size=resamples)
    drawn_SMM = (counts_SR @ wins_RMM.reshape(len(results), -1)).reshape(resamples, *total_MM.shape)
    drawn_SM = strengths(drawn_SMM, prior, tolerance=1e-5)
    low_M, high_M = np.quantile(drawn_SM, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    rows = [
        Standing(name, float(value_M[i]),
                 (float(min(low_M[i], value_M[i])), float(max(high_M[i], value_M[i]))) if len(results) > 1 else None,
                 float(total_MM[i].sum()), float((total_MM[i] + total_MM[:, i]).sum()))
        for name, i in place.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row.strength, row.model))
