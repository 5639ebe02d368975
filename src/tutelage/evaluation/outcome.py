"""What measuring a task gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tutelage.evaluation.harness import Answer, Measured, Row
from tutelage.evaluation.statistics import Estimate
from tutelage.generation.sampling import Sampling


@dataclass(frozen=True)
class Outcome:
    """Per row, whether it counts for the metric; chat replies are kept to be shown and judged further.

    `more` are other metrics of the same replies, each with its hits: of rows, or of calls. `estimates` are those that
    are no proportions.
    """

    metric: str
    hits: list[bool]
    answers: list[Answer] | None = None
    more: Mapping[str, list[bool]] = field(default_factory=dict)
    estimates: Mapping[str, Estimate] = field(default_factory=dict)


Measure = Callable[[Measured, Sequence[Row], Sampling], Outcome]


def by_kind(metric: str, hits: Sequence[bool], rows: Sequence[Row]) -> dict[str, list[bool]]:
    """The hits of each kind of rows as a metric of its own, `kind/metric`."""
    kinds = sorted({str(row["kind"]) for row in rows})
    return {
        f"{kind}/{metric}": [hit for hit, row in zip(hits, rows, strict=True) if row["kind"] == kind] for kind in kinds
    }
