"""Where a loop's batches come from: one optimiser step's micro-batches at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

Batch = TypeVar("Batch")
BatchOut = TypeVar("BatchOut", covariant=True)


class StepSource(Protocol[BatchOut]):
    """Yields steps; an on-policy source is a generator that computes a step only when the loop asks for it."""

    num_steps: int

    def steps(self, start: int) -> Iterator[Sequence[BatchOut]]:
        """The micro-batches of step `start`, `start + 1`, … up to `num_steps`."""

    def resumable(self, step: int) -> bool:
        """Whether a run can be taken up before `step` from `state_dict` alone."""

    def state_dict(self) -> Mapping[str, Any]:
        """Numbers and tensors that `steps` needs beside the step's number."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""


@dataclass
class IndexedSource(Generic[Batch]):
    """Steps that are a pure function of their number: resuming needs nothing else."""

    num_steps: int
    make: Callable[[int], Sequence[Batch]]

    def steps(self, start: int) -> Iterator[Sequence[Batch]]:
        """See StepSource."""
        for step in range(start, self.num_steps):
            yield self.make(step)

    def resumable(self, step: int) -> bool:
        """Always."""
        return True

    def state_dict(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to take up."""


def epoch_positions(start: int, count: int, size: int, seed: int) -> list[int]:
    """Indices below `size` at positions start … start + count of endless epochs, each shuffled by the seed."""
    positions = range(start, start + count)
    epochs = sorted({position // size for position in positions})
    orders = {epoch: np.random.Generator(np.random.PCG64([seed, epoch])).permutation(size) for epoch in epochs}
    return [int(orders[position // size][position % size]) for position in positions]
