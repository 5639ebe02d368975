"""A next-token distribution as its likeliest tokens and the mass of all others, straight from hidden states.

As in `logprobs`, the logits of a chunk of positions live only while they are used, and the backward pass computes them
again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ELEMENTS = 1 << 18  # logits of one chunk: many operations pass over them, so they stay in a core's own cache
LEAST_ROWS = 32  # but a product with fewer rows would mostly read weights
LEAST_REST = -80.0  # log mass below which the others count as this much: its reciprocal is still a number


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
    weight_VD, N = weight_VD.to(hidden_ND.dtype), hidden_ND.shape[0]
    floats = torch.empty(N, k + 1, dtype=torch.float32, device=hidden_ND.device)
    tops = Tops(torch.empty(N, k, dtype=torch.int32, device=floats.device), floats[:, :k], floats[:, k])
    for part in _chunks(hidden_ND, weight_VD):
        logits = (hidden_ND[part] @ weight_VD.T).float().div_(temperature)
        values, tokens = logits.topk(k, -1)
        normalisers, tops.rests_N[part] = _masses(logits, values[:, 0], tokens)
        tops.tokens_NK[part], tops.logprobs_NK[part] = tokens, values - normalisers[:, None]
    return tops


def linear_logprobs_at(
    hidden_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, tokens_NK: Tensor, temperature: float = 1.0
) -> LogprobsAt:
    """Log-probs of given tokens where there is a target (not negative), N places, row after row; see `LogprobsAt`.

    `tokens_NK` are different tokens in every row. Weights are cast to the dtype of the hidden states.
    """
    keep = (targets_BT >= 0).flatten().nonzero().squeeze(1)
    hidden_ND = hidden_BTD.reshape(-1, hidden_BTD.shape[-1]).index_select(0, keep)
    targets_N = targets_BT.flatten().index_select(0, keep)
    found = _LinearLogprobsAt.apply(hidden_ND, weight_VD, targets_N, tokens_NK.long(), temperature)  # type: ignore[no-untyped-call]  # torch's apply
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
        for part in _chunks(hidden_ND, weight_VD):
            logits = (hidden_ND[part] @ weight_VD.T).float()
            largest, likeliest[part] = logits.max(-1)
            at_target = logits.gather(1, targets_N[part, None]).squeeze(1)
            if temperature != 1.0:
                plain[part] = logits.logsumexp(-1)
                logits.div_(temperature)
            at_NK = logits.gather(1, tokens_NK[part])
            normalisers[part], rests[part] = _masses(logits, largest / temperature, tokens_NK[part])
            if temperature == 1.0:
                plain[part] = normalisers[part]
            logprobs_NK[part] = at_NK - normalisers[part, None]
            logprobs[part] = at_target - plain[part]
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
        for part in _chunks(hidden_ND, weight_VD):
            logits = (hidden_ND[part] @ weight_VD.T).float()
            at_target = grads[2][part]
            of_target = (
                (logits - plain[part, None]).exp_().mul_(-at_target[:, None]) if ctx.temperature != 1.0 else None
            )
            grad_logits = _gradient(
                logits.div_(ctx.temperature), normalisers[part], rests[part], tokens_NK[part], grads[0][part],
                grads[1][part], at_target if of_target is None else torch.zeros_like(at_target),
            )  # fmt: skip
            if of_target is not None:
                grad_logits = grad_logits.div_(ctx.temperature).add_(of_target)
            grad_logits.scatter_add_(1, targets_N[part, None], at_target[:, None])
            grad_logits = grad_logits.to(hidden_ND.dtype)
            grad_hidden[part] = grad_logits @ weight_VD
            grad_weight += grad_logits.T @ hidden_ND[part]
        return grad_hidden, grad_weight.to(ctx.weight_dtype), None, None, None


def _masses(logits: Tensor, largest_N: Tensor, tokens_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Log normalisers of logits [N, V], and the log mass of all but the given tokens. Takes the logits."""
    masses = logits.sub_(largest_N[:, None]).exp_()
    totals = masses.sum(-1).log()
    if tokens_NK.shape[1] == logits.shape[1]:
        return largest_N + totals, torch.full_like(totals, -torch.inf)
    others = masses.scatter_(1, tokens_NK, 0.0).sum(-1).clamp_(min=torch.finfo(masses.dtype).tiny)
    return largest_N + totals, others.log() - totals


def _gradient(
    logits: Tensor,
    normalisers: Tensor,
    rests: Tensor,
    tokens_NK: Tensor,
    at_NK: Tensor,
    at_rest: Tensor,
    at_target: Tensor,
) -> Tensor:
    """By the logits [N, V], in place: that of Σ at_NK · log p(tokens) + at_rest · log(mass of others), − p · at_target.

    p enters every log-probability by −p; one of the others also has its share of their mass, p / mass.
    """
    probabilities = logits.sub_(normalisers[:, None]).exp_()
    by_all = -(at_NK.sum(1) + at_rest + at_target)[:, None]
    at_tokens = probabilities.gather(1, tokens_NK) * by_all + at_NK
    by_others = at_rest / rests.clamp(min=LEAST_REST).exp()
    return probabilities.mul_(by_all + by_others[:, None]).scatter_(1, tokens_NK, at_tokens)


def _chunks(hidden_ND: Tensor, weight_VD: Tensor) -> list[slice]:
    rows = max(LEAST_ROWS, CHUNK_ELEMENTS // weight_VD.shape[0])
    return [slice(start, start + rows) for start in range(0, hidden_ND.shape[0], rows)]
