"""Batches of packed rows as tensors. Of what is trained on, targets are shifted here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.data.packing import PackedRows

NO_TARGET = -100  # the label that cross-entropy passes over


@dataclass(frozen=True)
class Batch:
    """`B` rows of `T` tokens; `targets_BT[b, t]` is the token after position `t`, or -100 where none is learnt."""

    input_ids_BT: Tensor  # int64
    targets_BT: Tensor  # int64
    position_ids_BT: Tensor  # int64, from 0 on in every sequence
    segment_ids_BT: Tensor  # int32, 0 on padding; `model.segments` says who attends to whom

    @property
    def num_targets(self) -> int:
        """How many tokens are learnt: what a summed loss is to be divided by."""
        return int((self.targets_BT != NO_TARGET).sum())

    @property
    def num_tokens(self) -> int:
        """How many tokens are not padding."""
        return int((self.segment_ids_BT > 0).sum())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        return Batch(
            self.input_ids_BT.to(device),
            self.targets_BT.to(device),
            self.position_ids_BT.to(device),
            self.segment_ids_BT.to(device),
        )


def shift_targets(input_ids_BT: Tensor, loss_mask_BT: Tensor, segment_ids_BT: Tensor) -> Tensor:
    """Labels [B, T]: the next token, if it is in the same segment and its `loss_mask` is set; else -100.

    So the first token of every document is nobody's label, and the last position of a row has none.
    """
    targets_BT = torch.full_like(input_ids_BT, NO_TARGET)
    same_segment = (segment_ids_BT[:, 1:] == segment_ids_BT[:, :-1]) & (segment_ids_BT[:, 1:] > 0)
    learnt = same_segment & loss_mask_BT[:, 1:]
    targets_BT[:, :-1] = torch.where(learnt, input_ids_BT[:, 1:], NO_TARGET)
    return targets_BT


def make_batch(rows: PackedRows) -> Batch:
    """Turn packed rows into tensors with shifted targets."""
    input_ids_BT = torch.from_numpy(rows.input_ids)
    segment_ids_BT = torch.from_numpy(rows.segment_ids)
    return Batch(
        input_ids_BT=input_ids_BT,
        targets_BT=shift_targets(input_ids_BT, torch.from_numpy(rows.loss_mask), segment_ids_BT),
        position_ids_BT=torch.from_numpy(rows.position_ids),
        segment_ids_BT=segment_ids_BT,
    )
