"""Packing: sequences of many lengths laid into rows of one length, without leaks and with little padding."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer[Any]]


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing: rows of indices into `lengths`, each row's lengths summing to at most `capacity`.

    Every index appears once. Equal lengths keep their order, so the result is a function of the arguments alone.
    Time O(n log n): the rows are kept by free space, of which there are at most `capacity` distinct values.
    """
    assert all(0 < length <= capacity for length in lengths), "every sequence must be non-empty and fit into a row"
    rows: list[list[int]] = []
    rows_with_space: dict[int, list[int]] = {}
    spaces: list[int] = []  # the distinct free spaces of open rows, ascending

    def open_space(space: int, row: int) -> None:
        if space == 0:
            return
        if space not in rows_with_space:
            rows_with_space[space] = []
            insort(spaces, space)
        rows_with_space[space].append(row)

    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        place = bisect_left(spaces, length)
        if place == len(spaces):
            rows.append([index])
            open_space(capacity - length, len(rows) - 1)
            continue
        space = spaces[place]
        row = rows_with_space[space].pop()
        if not rows_with_space[space]:
            del rows_with_space[space], spaces[place]
        rows[row].append(index)
        open_space(space - length, row)
    return rows


class Strip(NamedTuple):
    """Tokens of one sequence side by side in a row, the first of them at position `start` of the sequence."""

    ids: Sequence[int] | IntArray
    loss_mask: Sequence[bool] | npt.NDArray[np.bool_] | bool
    segment: int
    owner: int  # number of the sequence
    start: int = 0


@dataclass(frozen=True)
class PackedRows:
    """Sequences laid into `N` rows of `T` tokens; `segment_ids` is 0 on padding, and else as `model.segments` says."""

    input_ids: npt.NDArray[np.int64]  # [N, T]
    loss_mask: npt.NDArray[np.bool_]  # [N, T]: this token is to be predicted
    segment_ids: npt.NDArray[np.int32]  # [N, T]
    position_ids: npt.NDArray[np.int64]  # [N, T]: from 0 on in every sequence

    def __len__(self) -> int:
        return len(self.input_ids)

    def take(self, rows: slice | Sequence[int] | IntArray) -> PackedRows:
        """These rows, in this order."""
        index = rows if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)
        return PackedRows(
            self.input_ids[index], self.loss_mask[index], self.segment_ids[index], self.position_ids[index]
        )

    @property
    def num_tokens(self) -> int:
        """Tokens that are not padding."""
        return int((self.segment_ids > 0).sum())

    @property
    def efficiency(self) -> float:
        """Share of the cells that hold a token."""
        return self.num_tokens / max(self.segment_ids.size, 1)


def lay_rows(
    sequences: Sequence[Sequence[int] | IntArray],
    plan: Sequence[Sequence[int]],
    capacity: int,
    pad_id: int,
    loss_masks: Sequence[Sequence[bool] | npt.NDArray[np.bool_]] | None = None,
) -> PackedRows:
    """Lay `sequences` into rows as `plan` (from `pack`) says; without `loss_masks` every token is trained on.

    Segments are 1, 2, … along each row.
    """

    def strip(index: int, segment: int) -> Strip:
        return Strip(sequences[index], True if loss_masks is None else loss_masks[index], segment, index)

    rows = [[strip(index, segment) for segment, index in enumerate(indices, start=1)] for indices in plan]
    return lay_strips(rows, capacity, pad_id)


def lay_strips(rows: Sequence[Sequence[Strip]], capacity: int, pad_id: int) -> PackedRows:
    """Lay strips into rows, each row's one after the other from its first column on."""
    shape = (len(rows), capacity)
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    loss_mask = np.zeros(shape, dtype=np.bool_)
    segment_ids = np.zeros(shape, dtype=np.int32)
    position_ids = np.zeros(shape, dtype=np.int64)
    for row, strips in enumerate(rows):
        column = 0
        for strip in strips:
            end = column + len(strip.ids)
            assert end <= capacity, "the plan was made for longer rows"
            input_ids[row, column:end] = strip.ids
            loss_mask[row, column:end] = strip.loss_mask
            segment_ids[row, column:end] = strip.segment
            position_ids[row, column:end] = np.arange(strip.start, strip.start + len(strip.ids))
            column = end
    return PackedRows(input_ids, loss_mask, segment_ids, position_ids)


def pack_rows(
    sequences: Sequence[Sequence[int] | IntArray],
    capacity: int,
    pad_id: int,
    loss_masks: Sequence[Sequence[bool] | npt.NDArray[np.bool_]] | None = None,
) -> PackedRows:
    """`pack` and `lay_rows` in one."""
    plan = pack([len(sequence) for sequence in sequences], capacity)
    return lay_rows(sequences, plan, capacity, pad_id, loss_masks)


def runs(lengths: Sequence[int], capacity: int) -> list[range]:
    """Sequences in their order, cut into runs of at most `capacity` tokens; a longer one is a run of its own."""
    if not lengths:
        return []
    bounds, total = [0], 0
    for place, length in enumerate(lengths):
        total += length
        if total > capacity and place > bounds[-1]:
            bounds.append(place)
            total = length
    return [range(start, end) for start, end in zip(bounds, [*bounds[1:], len(lengths)], strict=True)]
