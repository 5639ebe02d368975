"""Texts whose learnt tokens are numbered through: under its number lies what is known of a token, such as a teacher's
distribution, wherever packing puts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tutelage.data.batches import NO_TARGET, Batch, make_batch
from tutelage.data.completions import Completion
from tutelage.data.packing import lay_rows
from tutelage.data.shards import TokenShard
from tutelage.data.template import Rendered

IntArray = npt.NDArray[np.integer[Any]]
BoolArray = npt.NDArray[np.bool_]


class NumberedBatch(NamedTuple):
    """Packed rows, and the numbers (N,) of their targets, row after row."""

    rows: Batch
    numbers_N: Tensor  # int64


@dataclass(frozen=True)
class Passages:
    """Texts with masks of what is learnt, which is never a text's first token: nothing stands before it."""

    ids: Sequence[IntArray]
    loss_masks: Sequence[BoolArray]

    def __post_init__(self) -> None:
        assert not any(mask[0] for mask in self.loss_masks), "a first token is nobody's target"

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(ids) for ids in self.ids]

    @cached_property
    def firsts(self) -> list[int]:
        """The number of each text's first learnt token, and how many there are in all."""
        return [0, *accumulate(int(mask.sum()) for mask in self.loss_masks)]

    def lay(self, plan: Sequence[Sequence[int]], capacity: int, pad_id: int) -> NumberedBatch:
        """These texts in rows, as `plan` has them by their places here."""
        used = list(chain.from_iterable(plan))
        places = iter(range(len(used)))
        own_plan = [[next(places) for _ in row] for row in plan]
        masks = [self.loss_masks[index] for index in used]
        numbers = [self.firsts[index] + mask.cumsum() - 1 for index, mask in zip(used, masks, strict=True)]
        rows = lay_rows([self.ids[index] for index in used], own_plan, capacity, pad_id, masks)
        numbered = replace(rows, input_ids=lay_rows(numbers, own_plan, capacity, pad_id).input_ids)
        targets_BT = make_batch(numbered).targets_BT
        return NumberedBatch(make_batch(rows), targets_BT[targets_BT != NO_TARGET])


def passages(texts: Iterable[Rendered | Completion]) -> Passages:
    """Rendered conversations, or prompts with their completions."""
    pairs = [(np.array(text.ids), np.array(text.loss_mask, dtype=np.bool_)) for text in texts]
    return Passages([ids for ids, _ in pairs], [mask for _, mask in pairs])


def shard_passages(shard: TokenShard, pieces: Sequence[tuple[int, int]]) -> Passages:
    """Pieces of a shard, (start, length) each; all but the first token of each is learnt."""
    masks = [np.arange(length) > 0 for _, length in pieces]
    return Passages([shard.tokens[start : start + length] for start, length in pieces], masks)
