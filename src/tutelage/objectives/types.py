"""What every training objective returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

Metrics = Mapping[str, tuple[Tensor, Tensor]]
"""Name → (sum, count); both detached, so that micro-batches and ranks are added before the division."""


@dataclass(frozen=True)
class LossOutput:
    """A summed loss and the count that it is to be divided by, both 0-dimensional.

    The loop adds counts over micro-batches and ranks before it divides, so that accumulation, padding and world size
    never change a result. A batch in which nothing is trained has `loss_sum` 0 (still on the graph) and `count` 0.
    """

    loss_sum: Tensor
    count: Tensor
    metrics: Metrics

    def mean(self) -> Tensor:
        """The loss of this batch alone: sum / count, or 0 if the count is 0."""
        return divide(self.loss_sum, self.count)


def divide(total: Tensor, count: Tensor) -> Tensor:
    """`total / count`, and 0 where the count is 0 (the sum is 0 there)."""
    return total / count.where(count != 0, 1)
