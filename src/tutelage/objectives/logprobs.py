"""Log-probs and entropies of tokens and sequences, from logits.

Only the rows that the mask selects are computed. That saves the work for prompts and padding, and a NaN there reaches
neither the result nor the gradient. Half-precision logits are computed in float32; wider ones stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.objectives.masked import masked
from tutelage.objectives.types import divide

IGNORED = -100
"""The label of a token that is not trained on."""


def shift_labels(labels_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Next-token targets and their mask, both (B, T): position t is to predict label t + 1, the last predicts nothing.

    Labels that are `IGNORED` leave the mask; their targets are 0. Nothing else here shifts anything; training shifts
    packed rows, which know where documents end, in `data.batches.shift_targets`.
    """
    targets_BT = torch.full_like(labels_BT, IGNORED)
    targets_BT[:, :-1] = labels_BT[:, 1:]
    mask_BT = targets_BT != IGNORED
    return torch.where(mask_BT, targets_BT, 0), mask_BT


def selected_logits(logits_BTV: Tensor, mask_BT: Tensor | None, temperature: float = 1.0) -> Tensor:
    """The selected rows (N, V) of the logits, at least float32, divided by the temperature."""
    logits_NV = logits_BTV.flatten(0, -2) if mask_BT is None else logits_BTV[mask_BT.bool()]
    logits_NV = at_least_float32(logits_NV)
    return logits_NV if temperature == 1.0 else logits_NV / temperature


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision as float32, everything else unchanged."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def token_logprobs(
    logits_BTV: Tensor, targets_BT: Tensor, mask_BT: Tensor | None = None, temperature: float = 1.0
) -> Tensor:
    """Log-prob (natural) of each target under its own row of logits, (B, T); 0 where the mask is not set.

    Nothing is shifted here (see `shift_labels`). A logit of −inf is a forbidden token.
    """
    logits_NV = selected_logits(logits_BTV, mask_BT, temperature)
    targets_N = targets_BT.flatten() if mask_BT is None else targets_BT[mask_BT.bool()]
    logprobs_N = logits_NV.gather(-1, targets_N.unsqueeze(-1)).squeeze(-1) - logits_NV.logsumexp(-1)
    return spread(logprobs_N, targets_BT.shape, mask_BT)


def token_entropy(logits_BTV: Tensor, mask_BT: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """Entropy (nats) of each row's softmax, (B, T), differentiable; 0 where the mask is not set."""
    return spread(entropy(selected_logits(logits_BTV, mask_BT, temperature)), logits_BTV.shape[:-1], mask_BT)


def entropy(logits_NV: Tensor) -> Tensor:
    """Entropy (nats) of the softmax over the last dimension; forbidden tokens (−inf) add nothing."""
    logprobs_NV = logits_NV.log_softmax(-1)
    # 0 · −inf is NaN, in the value and in both gradients: the finite stand-in is multiplied by a probability of 0.
    finite_NV = logprobs_NV.masked_fill(logprobs_NV == -torch.inf, 0.0)
    return -(logprobs_NV.exp() * finite_NV).sum(-1)


def spread(values_N: Tensor, shape: torch.Size, mask_BT: Tensor | None) -> Tensor:
    """Values of selected rows put back at their places in a tensor of that shape, 0 elsewhere."""
    if mask_BT is None:
        return values_N.reshape(shape)
    return values_N.new_zeros(shape).masked_scatter(mask_BT.bool(), values_N)


def sequence_logprobs(logprobs_BT: Tensor, mask_BT: Tensor, *, mean: bool = False) -> Tensor:
    """Sum (or per-token mean) of each sequence's selected log-probs, (B,); 0 for a sequence with none."""
    sums_B = masked(logprobs_BT, mask_BT).sum(-1)
    return divide(sums_B, mask_BT.bool().sum(-1)) if mean else sums_B
