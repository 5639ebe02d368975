"""Next-token prediction: pretraining and supervised fine-tuning."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tutelage.objectives.logprobs import entropy, selected_logits
from tutelage.objectives.types import LossOutput, Metrics


def next_token_loss(
    logits_BTV: Tensor, targets_BT: Tensor, mask_BT: Tensor | None = None, *, metrics: bool = True
) -> LossOutput:
    """Summed cross-entropy (nats) of the selected targets and their number; `mask_BT=None` trains on every token.

    Targets are already shifted (`logprobs.shift_labels`). Metrics, if wanted: `mean_token_accuracy`, `entropy`.
    """
    logits_NV = selected_logits(logits_BTV, mask_BT)
    targets_N = targets_BT.flatten() if mask_BT is None else targets_BT[mask_BT.bool()]
    count = logits_NV.new_tensor(targets_N.numel())
    loss_sum = cross_entropy(logits_NV, targets_N, reduction="sum")
    return LossOutput(loss_sum, count, _token_metrics(logits_NV, targets_N, count) if metrics else {})


@torch.no_grad()
def _token_metrics(logits_NV: Tensor, targets_N: Tensor, count: Tensor) -> Metrics:
    return {
        "mean_token_accuracy": ((logits_NV.argmax(-1) == targets_N).sum().to(count.dtype), count),
        "entropy": (entropy(logits_NV).sum(), count),
    }
