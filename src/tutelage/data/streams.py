"""Rows of tokens to pretrain on, by number: the position in the data is one integer, so a resumed run goes on exactly.

A text longer than a row becomes chunks that overlap by one token. The first token of a chunk has no label, but it is
the last of the chunk before, where it has one: so every token but a document's first is learnt exactly once an epoch,
and a sum over one epoch of a validation set divided by its bytes is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tutelage.data.packing import PackedRows, lay_rows, pack
from tutelage.data.shards import TokenShard
from tutelage.errors import DataError

WINDOW = 1_000  # documents packed together: enough to fill rows, few enough that an epoch stays shuffled

Int64Array = npt.NDArray[np.int64]


class RowSource(Protocol):
    """Rows by number, without end; `rows_per_epoch` of them are the data once."""

    @property
    def rows_per_epoch(self) -> int:
        """How many rows hold the whole data once."""

    @property
    def efficiency(self) -> float:
        """Share of the cells that hold a token."""

    def rows(self, start_row: int, count: int) -> PackedRows:
        """`count` rows from `start_row` on: a function of the numbers alone."""


class PretrainRows:
    """Documents in an order of their own each epoch, packed into rows of `context` tokens."""

    def __init__(self, shard: TokenShard, context: int, seed: int) -> None:
        _check(shard, context, at_least=2)
        self.shard, self._context, self._seed = shard, context, seed
        self._plans: dict[int, _EpochPlan] = {}
        self._first_rows = [0]  # of every epoch planned so far, and of the next

    @property
    def rows_per_epoch(self) -> int:
        """Rows of the first epoch; other epochs are packed in another order and differ by a few."""
        return self._plan(0).num_rows

    @property
    def efficiency(self) -> float:
        """Share of the first epoch's cells that hold a token."""
        plan = self._plan(0)
        return float(plan.lengths.sum()) / (plan.num_rows * self._context)

    def epoch(self, row: int) -> int:
        """The epoch (from 0) that a row belongs to."""
        while self._first_rows[-1] <= row:
            self._plan(len(self._first_rows) - 1)
        return int(np.searchsorted(self._first_rows, row, side="right")) - 1

    def rows(self, start_row: int, count: int) -> PackedRows:
        """`count` rows from `start_row` on, over the ends of epochs."""
        sequences: list[npt.NDArray[np.unsignedinteger]] = []
        layout: list[range] = []
        for pieces in self.pieces(start_row, count):
            layout.append(range(len(sequences), len(sequences) + len(pieces)))
            sequences.extend(self.shard.tokens[start : start + length] for start, length in pieces)
        return lay_rows(sequences, layout, self._context, self.shard.pad_id)

    def pieces(self, start_row: int, count: int) -> list[list[tuple[int, int]]]:
        """What lies in those rows, as (start, length) in the shard; a document is cut alike in every epoch."""
        found = []
        for row in range(start_row, start_row + count):
            epoch = self.epoch(row)
            found.append(self._plan(epoch).row(row - self._first_rows[epoch]))
        return found

    def _plan(self, epoch: int) -> _EpochPlan:
        if epoch not in self._plans:
            for kept in [kept for kept in self._plans if kept not in (0, epoch - 1)]:
                del self._plans[kept]
            self._plans[epoch] = _plan_epoch(self.shard.offsets, self._context, self._seed, epoch)
            if epoch == len(self._first_rows) - 1:
                self._first_rows.append(self._first_rows[-1] + self._plans[epoch].num_rows)
        return self._plans[epoch]


@dataclass(frozen=True)
class _EpochPlan:
    starts: Int64Array  # [P] where each piece begins in the shard, in the order of rows
    lengths: Int64Array  # [P]
    row_offsets: Int64Array  # [R + 1] the first piece of each row, and the end

    @property
    def num_rows(self) -> int:
        return len(self.row_offsets) - 1

    def row(self, index: int) -> list[tuple[int, int]]:
        pieces = slice(self.row_offsets[index], self.row_offsets[index + 1])
        return list(zip(self.starts[pieces].tolist(), self.lengths[pieces].tolist(), strict=True))


def _plan_epoch(offsets: Int64Array, context: int, seed: int, epoch: int) -> _EpochPlan:
    random = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = random.permutation(len(offsets) - 1)
    rows: list[list[tuple[int, int]]] = []
    for first in range(0, len(order), WINDOW):
        pieces = [
            piece
            for document in order[first : first + WINDOW].tolist()
            for piece in _chunks(int(offsets[document]), int(offsets[document + 1]), context)
        ]
        plan = pack([length for _, length in pieces], context)
        rows.extend([pieces[index] for index in row] for row in plan)
    shuffled = [rows[index] for index in random.permutation(len(rows)).tolist()]  # packing had put the long ones first
    pieces = [piece for row in shuffled for piece in row]
    return _EpochPlan(
        starts=np.array([start for start, _ in pieces], dtype=np.int64),
        lengths=np.array([length for _, length in pieces], dtype=np.int64),
        row_offsets=np.cumsum([0, *(len(row) for row in shuffled)], dtype=np.int64),
    )


def _chunks(start: int, end: int, context: int) -> list[tuple[int, int]]:
    """(start, length) of pieces of at most `context` tokens, each beginning with the last token of the one before."""
    last = max(end - 1, start + 1)  # a piece of one token would have no label
    return [(place, min(context, end - place)) for place in range(start, last, context - 1)]


class ContinuousRows:
    """Random crops of one running text: row number `r` is a function of (seed, r)."""

    def __init__(self, shard: TokenShard, context: int, seed: int) -> None:
        _check(shard, context, at_least=context)
        self._shard, self._context, self._seed = shard, context, seed
        self.rows_per_epoch = max(1, (shard.num_tokens - 1) // (context - 1))
        self.efficiency = 1.0

    def rows(self, start_row: int, count: int) -> PackedRows:
        """`count` crops from number `start_row` on."""
        last_start = self._shard.num_tokens - self._context
        starts = [
            int(np.random.Generator(np.random.PCG64([self._seed, row])).integers(last_start, endpoint=True))
            for row in range(start_row, start_row + count)
        ]
        crops = [self._shard.tokens[start : start + self._context] for start in starts]
        return lay_rows(crops, [[row] for row in range(count)], self._context, self._shard.pad_id)


class SequentialRows:
    """One running text from beginning to end, for validation: every token but the first has its label once."""

    def __init__(self, shard: TokenShard, context: int) -> None:
        _check(shard, context, at_least=2)
        self._shard, self._context = shard, context
        self._pieces = _chunks(0, shard.num_tokens, context)
        self.rows_per_epoch = len(self._pieces)
        self.efficiency = sum(length for _, length in self._pieces) / (len(self._pieces) * context)

    def rows(self, start_row: int, count: int) -> PackedRows:
        """`count` rows from `start_row` on; after the end the text begins again."""
        pieces = [self._pieces[row % len(self._pieces)] for row in range(start_row, start_row + count)]
        crops = [self._shard.tokens[start : start + length] for start, length in pieces]
        return lay_rows(crops, [[row] for row in range(count)], self._context, self._shard.pad_id)


def _check(shard: TokenShard, context: int, at_least: int) -> None:
    assert context >= 2, "a row of one token has nothing to predict"
    if shard.num_tokens < at_least:
        raise DataError(
            f"the {shard.split} split of {shard.folder} has {shard.num_tokens} tokens, but {at_least} are needed",
            hint="use more text, a smaller context or, for validation, a larger validation_share",
        )
