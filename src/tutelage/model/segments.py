"""Which positions of a row attend to which: several sequences a row, and sequences that begin with the same tokens."""

from __future__ import annotations

import torch
from torch import Tensor

# Segments from this id on are trees: the tokens that sequences share are in segment f·BRANCHES, f ≥ 1, and what each of
# them goes on with is in f·BRANCHES + 1, + 2, …. A segment with a smaller id is one sequence; 0 is padding.
BRANCHES = 1 << 16


def segment_mask(segment_ids_BT: Tensor) -> Tensor:
    """[B, 1, T, T]: a position attends to earlier ones of its segment and of what its segment goes on from.

    Padding (0) attends only to padding, and nothing else to padding.
    """
    T = segment_ids_BT.shape[1]
    root_BT = torch.where(segment_ids_BT < BRANCHES, segment_ids_BT, segment_ids_BT - segment_ids_BT % BRANCHES)
    queries, roots, keys = segment_ids_BT[:, :, None], root_BT[:, :, None], segment_ids_BT[:, None, :]
    causal = torch.ones(T, T, dtype=torch.bool, device=segment_ids_BT.device).tril()
    return (((keys == queries) | (keys == roots)) & causal)[:, None]
