"""Log-probabilities of given tokens straight from hidden states, a chunk of positions at a time.

The logits of a whole batch are the largest tensor of a training step. Here each chunk's logits live only while they
are used; the backward pass computes them again (one product of N·D·V more, instead of N·V floats kept).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 22  # logits of one chunk: 4 M elements stay near the cache


class TokenLogprobs(NamedTuple):
    """Per token, float32, 0 where the target is negative: log-probability, and entropy of the distribution in nats."""

    logprobs: Tensor
    entropies: Tensor


def linear_logprobs(
    hidden_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, temperature: float = 1.0
) -> TokenLogprobs:
    """log softmax(hidden · weightᵀ / temperature)[target] and the entropy of that distribution (not differentiable)."""
    keep = (targets_BT >= 0).flatten().nonzero().squeeze(1)
    hidden_ND = hidden_BTD.reshape(-1, hidden_BTD.shape[-1]).index_select(0, keep)
    targets_N = targets_BT.flatten().index_select(0, keep)
    logprobs_N, entropies_N = _LinearLogprobs.apply(hidden_ND, weight_VD, targets_N, temperature)  # type: ignore[no-untyped-call]  # torch's apply
    zeros = logprobs_N.new_zeros(targets_BT.numel())
    shape = targets_BT.shape
    return TokenLogprobs(
        zeros.index_put((keep,), logprobs_N).view(shape), zeros.index_put((keep,), entropies_N).view(shape)
    )


class _LinearLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        logprobs = torch.empty(targets_N.shape, dtype=torch.float32, device=hidden_ND.device)
        entropies, normalisers = torch.empty_like(logprobs), torch.empty_like(logprobs)
        for part in _chunks(hidden_ND, weight_VD):
            logits = (hidden_ND[part] @ weight_VD.T).float().div_(temperature)
            normaliser = logits.logsumexp(-1)
            logprobs[part] = logits.gather(1, targets_N[part, None]).squeeze(1) - normaliser
            normalisers[part] = normaliser
            probabilities = (logits - normaliser[:, None]).exp_()
            entropies[part] = normaliser - torch.linalg.vecdot(probabilities, logits)
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N, normalisers)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden_ND, weight_VD, targets_N, normalisers = ctx.saved_tensors
        grad_N = grads[0] / ctx.temperature
        grad_hidden = torch.empty_like(hidden_ND)
        grad_weight = torch.zeros(weight_VD.shape, dtype=torch.float32, device=weight_VD.device)
        for part in _chunks(hidden_ND, weight_VD):
            logits = (hidden_ND[part] @ weight_VD.T).float().div_(ctx.temperature)
            probabilities = logits.sub_(normalisers[part, None]).exp_()
            # d logprob / d logits = onehot(target) - probabilities
            grad_logits = probabilities.mul_(-grad_N[part, None])
            grad_logits.scatter_add_(1, targets_N[part, None], grad_N[part, None])
            grad_logits = grad_logits.to(hidden_ND.dtype)
            grad_hidden[part] = grad_logits @ weight_VD
            grad_weight += grad_logits.T @ hidden_ND[part]
        return grad_hidden, grad_weight.to(weight_VD.dtype), None, None


def _chunks(hidden_ND: Tensor, weight_VD: Tensor) -> list[slice]:
    rows = max(1, CHUNK_ELEMENTS // weight_VD.shape[0])
    return [slice(start, start + rows) for start in range(0, hidden_ND.shape[0], rows)]
