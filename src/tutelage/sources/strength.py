"""How strongly a preference row prefers: its margin or ratings, the probability of its verdict, its weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tutelage.sources.rows import RowRefused

Row = Mapping[str, Any]

RATINGS = (("chosen_rating", "rejected_rating"), ("chosen_score", "rejected_score"), ("score_chosen", "score_rejected"))


def strength_of(row: Row) -> dict[str, float]:
    """What a row states of `margin`, `probability` and `weight`; a RowRefused for what cannot be meant.

    The margin (Touvron et al., arXiv 2307.09288, section 3.2.2) is stated, or is the difference of the two ratings.
    The probability is that of the chosen reply being the better one, a soft label (Bai et al., arXiv 2212.08073).
    """
    margin, probability, weight = _margin(row), _number(row, "probability"), _number(row, "weight")
    if probability is not None and not 0 <= probability <= 1:
        raise RowRefused("`probability` is not between 0 and 1", "write the probability that chosen is the better one")
    if probability is not None and probability < 0.5:
        raise RowRefused("`probability` speaks for the rejected reply", "swap chosen and rejected, and write 1 − p")
    if weight is not None and weight < 0:
        raise RowRefused("`weight` is negative", "write how much the row counts, 0 for nothing")
    stated = {"margin": margin, "probability": probability, "weight": weight}
    return {name: value for name, value in stated.items() if value is not None}


def _margin(row: Row) -> float | None:
    margin = _number(row, "margin")
    if margin is not None:
        if margin < 0:
            raise RowRefused("`margin` is negative", "swap chosen and rejected, or write how much better chosen is")
        return margin
    margin = next((found for names in RATINGS if (found := _difference(row, *names)) is not None), None)
    if margin is not None and margin < 0:
        raise RowRefused("the chosen reply is rated below the rejected one", "swap them, or mend the ratings")
    return margin


def _difference(row: Row, chosen: str, rejected: str) -> float | None:
    better, worse = _number(row, chosen), _number(row, rejected)
    return None if better is None or worse is None else better - worse


def _number(row: Row, name: str) -> float | None:
    """A finite number of the row, also from the text of a table's cell; None if it states none."""
    value = row.get(name)
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise RowRefused(f"`{name}` is no number", f"it is {str(value)[:40]!r}: write a number, or leave it out")
    return number
