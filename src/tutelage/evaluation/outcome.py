"""What measuring a task gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tutelage.evaluation.harness import Answer, Measured, Row
from tutelage.generation.sampling import Sampling


@dataclass(frozen=True)
class Outcome:
    """Per row, whether it counts for the metric; chat replies are kept to be shown and judged further.

    `more` are other metrics of the same replies, each with its hits: of rows, or of calls.
    """

    metric: str
    hits: list[bool]
    answers: list[Answer] | None = None
    more: Mapping[str, list[bool]] = field(default_factory=dict)


Measure = Callable[[Measured, Sequence[Row], Sampling], Outcome]
