"""Whether replies win by where they stand on the screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from tutelage.feedback.agreement import sign


@dataclass(frozen=True)
class PositionBias:
    """Of n judgements that lean to one side, the share that prefers what stood first.

    `p_value`: two-sided exact binomial test against ½; the interval is Wilson's. The share is None with n = 0.
    """

    n: int
    first: int
    share: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None


def leaning(ranks_shown: Sequence[float]) -> int:
    """Ranks in the order shown → 1 if earlier replies won more often than later ones, −1 if less often, 0 if neither.

    Of two replies: 1 if the first one won. Had the order nothing to do with the preference, 1 and −1 were equally
    likely, and one judgement is one independent observation, however many replies were ranked.
    """
    return sign(sum(sign(later - earlier) for earlier, later in combinations(ranks_shown, 2)))


def position_bias(leanings: Iterable[int], confidence: float = 0.95) -> PositionBias:
    """The sign test over judgements that lean."""
    from scipy.stats import binomtest

    leans = [lean for lean in leanings if lean]
    n, first = len(leans), sum(lean > 0 for lean in leans)
    if not n:
        return PositionBias(0, 0, None, None, None, None)
    test = binomtest(first, n)
    interval = test.proportion_ci(confidence, method="wilson")
    return PositionBias(n, first, first / n, float(interval.low), float(interval.high), float(test.pvalue))
