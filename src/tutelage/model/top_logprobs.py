"""A next-token distribution as its likeliest tokens and the mass of all others, straight from hidden states.

As in `logprobs`, the logits of a chunk of positions live only while they are used, and the backward pass computes them
again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tutelage.model.logprobs import chunks


class Tops(NamedTuple):
    """Of N distributions: the K likeliest tokens, likeliest first, their log-probs, and the log mass of all others.

    With K = V nothing is left: the rest is −inf.
    """

    tokens_NK: Tensor  # int32
    logprobs_NK: Tensor  # float32
    rests_N: Tensor  # float32

    @property
    def table(self) -> Tensor:
        """Log-probs [N, K + 1] of a distribution over K tokens and "another one"."""
        return torch.cat((self.logprobs_NK, self.rests_N[:, None]), 1)


class LogprobsAt(NamedTuple):
    """Of N distributions: log-probs of K given tokens and of all others together, at a temperature; of the targets.

    Targets' log-probs are those at temperature 1. `likeliest_N` is not differentiable.
    """

    logprobs_NK: Tensor
    rests_N: Tensor
    targets_N: Tensor
    likeliest_N: Tensor  # int64

    @property
    def table(self) -> Tensor:
        """See `Tops.table`."""
        return torch.cat((self.logprobs_NK, self.rests_N[:, None]), 1)


@torch.no_grad()
def linear_tops(hidden_ND: Tensor, weight_VD: Tensor, k: int, temperature: float = 1.0) -> Tops:
    """The `k` likeliest tokens of softmax(hidden · weightᵀ / temperature), and the rest."""
    weight_VD = weight_VD.to(hidden_ND.dtype)
    found = []
    for part in chunks(hidden_ND, weight_VD):
        logits = (hidden_ND[part] @ weight_VD.T).float().div_(temperature)
        normalisers = logits.logsumexp(-1, keepdim=True)
        values, tokens = logits.topk(k, -1)
        rests = logits.scatter_(1, tokens, -torch.inf).logsumexp(-1)
        found.append((tokens.int(), values - normalisers, rests - normalisers.squeeze(1)))
    if not found:
        empty = torch.empty(0, k)
        return Tops(empty.int(), empty, torch.empty(0))
    return Tops(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def linear_logprobs_at(
    hidden_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, tokens_NK: Tensor, temperature: float = 1.0
) -> LogprobsAt:
    """Log-probs of given tokens where there is a target (not negative), N places, row after row; see `LogprobsAt`.

    `tokens_NK` are different tokens in every row. Weights are cast to the dtype of the hidden states.
    """
    keep = (targets_BT >= 0).flatten().nonzero().squeeze(1)
    hidden_ND = hidden_BTD.reshape(-1, hidden_BTD.shape[-1]).index_select(0, keep)
    targets_N = targets_BT.flatten().index_select(0, keep)
    found = _LinearLogprobsAt.apply(hidden_ND, weight_VD, targets_N, tokens_NK.long(), temperature)  # type: ignore[no-untyped-call]
    return LogprobsAt(*found)


class _LinearLogprobsAt(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, tokens_NK: Tensor, temperature: float
    ) -> tuple[Tensor, ...]:
        ctx.weight_dtype, weight_VD = weight_VD.dtype, weight_VD.to(hidden_ND.dtype)
        logprobs_NK = torch.empty(tokens_NK.shape, dtype=torch.float32, device=hidden_ND.device)
        rests, logprobs, normalisers, plain = logprobs_NK.new_empty(4, len(targets_N))
        likeliest = torch.empty_like(targets_N)
        for part in chunks(hidden_ND, weight_VD):
            logits = (hidden_ND[part] @ weight_VD.T).float()
            likeliest[part] = logits.argmax(-1)
            plain[part] = logits.logsumexp(-1)
            logprobs[part] = logits.gather(1, targets_N[part, None]).squeeze(1) - plain[part]
            normalisers[part] = plain[part] if temperature == 1.0 else logits.div_(temperature).logsumexp(-1)
            logprobs_NK[part] = logits.gather(1, tokens_NK[part]) - normalisers[part, None]
            rests[part] = logits.scatter_(1, tokens_NK[part], -torch.inf).logsumexp(-1) - normalisers[part]
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N, tokens_NK, normalisers, plain, rests)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(likeliest)
        return logprobs_NK, rests, logprobs, likeliest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        hidden_ND, weight_VD, targets_N, tokens_NK, normalisers, plain, rests = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden_ND)
        grad_weight = torch.zeros(weight_VD.shape, dtype=torch.float32, device=weight_VD.device)
        for part in chunks(hidden_ND, weight_VD):
            logits = (hidden_ND[part] @ weight_VD.T).float()
            at_NK, at_rest, at_target = (grad[part] for grad in grads[:3])
            grad_logits = _gradient(
                logits / ctx.temperature, normalisers[part], rests[part], tokens_NK[part], at_NK, at_rest
            ).div_(ctx.temperature)
            grad_logits -= logits.sub_(plain[part, None]).exp_().mul_(at_target[:, None])
            grad_logits.scatter_add_(1, targets_N[part, None], at_target[:, None])
            grad_logits = grad_logits.to(hidden_ND.dtype)
            grad_hidden[part] = grad_logits @ weight_VD
            grad_weight += grad_logits.T @ hidden_ND[part]
        return grad_hidden, grad_weight.to(ctx.weight_dtype), None, None, None


def _gradient(
    logits: Tensor, normalisers: Tensor, rests: Tensor, tokens_NK: Tensor, at_NK: Tensor, at_rest: Tensor
) -> Tensor:
    """By the logits [N, V]: that of Σ at_NK · log p(tokens) + at_rest · log(mass of all others).

    p enters every log-probability by −p; one of the others also has its share of their mass.
    """
    logprobs = logits.sub_(normalisers[:, None])
    gradient = logprobs.exp().mul_(-(at_NK.sum(1) + at_rest)[:, None])
    if tokens_NK.shape[1] < logits.shape[1]:
        shares = logprobs.sub_(rests[:, None]).scatter_(1, tokens_NK, -torch.inf).exp_()
        gradient += shares.mul_(at_rest[:, None])
    return gradient.scatter_add_(1, tokens_NK, at_NK)
