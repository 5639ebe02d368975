"""Log-probabilities of given tokens straight from hidden states, a chunk of positions at a time.

The logits of a whole batch are the largest tensor of a training step. Here each chunk's logits live only while they
are used; the backward pass computes them again (one product of N·D·V more, instead of N·V floats kept), unless they are
few: a small batch keeps them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tutelage.model import kernels, tile_logprobs

CHUNK_ELEMENTS = 1 << 22  # logits of one chunk: 4 M elements stay near the cache
KEPT_ELEMENTS = 1 << 24  # as many logits (64 MB) may be kept for the backward pass instead of being computed again


class TokenLogprobs(NamedTuple):
    """Per token, float32, 0 where the target is negative: log-probability, and entropy of the distribution in nats."""

    logprobs: Tensor
    entropies: Tensor


def linear_logprobs(
    hidden_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, temperature: float = 1.0
) -> TokenLogprobs:
    """log softmax(hidden · weightᵀ / temperature)[target] and the entropy of that distribution (not differentiable).

    Weights are cast to the dtype of the hidden states; their gradient keeps their own.
    """
    keep = (targets_BT >= 0).flatten().nonzero().squeeze(1)
    hidden_ND = hidden_BTD.reshape(-1, hidden_BTD.shape[-1]).index_select(0, keep)
    targets_N = targets_BT.flatten().index_select(0, keep)
    found = (
        tile_logprobs.linear_logprobs if tile_logprobs.takes(hidden_ND, weight_VD, targets_N) else _LinearLogprobs.apply
    )
    logprobs_N, entropies_N = found(hidden_ND, weight_VD, targets_N, temperature)
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
        ctx.weight_dtype, weight_VD = weight_VD.dtype, weight_VD.to(hidden_ND.dtype)
        logprobs = torch.empty(targets_N.shape, dtype=torch.float32, device=hidden_ND.device)
        entropies, normalisers = torch.empty_like(logprobs), torch.empty_like(logprobs)
        ctx.fused = _takes(hidden_ND, weight_VD, targets_N)
        statistics = softmax_statistics_kernel if ctx.fused else softmax_statistics
        # the torch operations change the logits that they are given
        keep = ctx.fused and any(ctx.needs_input_grad) and targets_N.numel() * weight_VD.shape[0] <= KEPT_ELEMENTS
        ctx.kept = []
        for part in _chunks(hidden_ND, weight_VD):
            logits = (hidden_ND[part] @ weight_VD.T).float()
            logprobs[part], normalisers[part], entropies[part] = statistics(logits, targets_N[part], temperature)
            if keep:
                ctx.kept.append(logits)
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N, normalisers)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden_ND, weight_VD, targets_N, normalisers = ctx.saved_tensors
        gradient = softmax_gradient_kernel if ctx.fused else softmax_gradient
        grad_hidden = torch.empty_like(hidden_ND)
        grad_weight = torch.zeros(weight_VD.shape, dtype=torch.float32, device=weight_VD.device)
        kept, ctx.kept = ctx.kept, []  # used up here: a second backward computes them again
        for number, part in enumerate(_chunks(hidden_ND, weight_VD)):
            logits = kept[number] if kept else (hidden_ND[part] @ weight_VD.T).float()
            grad_logits = gradient(logits, targets_N[part], normalisers[part], grads[0][part], ctx.temperature)
            grad_logits = grad_logits.to(hidden_ND.dtype)
            grad_hidden[part] = grad_logits @ weight_VD
            if grad_weight.dtype == grad_logits.dtype:
                grad_weight.addmm_(grad_logits.T, hidden_ND[part])
            else:
                grad_weight += grad_logits.T @ hidden_ND[part]
        return grad_hidden, grad_weight.to(ctx.weight_dtype), None, None


def softmax_statistics(logits: Tensor, targets_N: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of softmax(logits [N, V] / temperature): targets' log-probabilities, log normalisers, entropies. Takes logits."""
    logits.div_(temperature)
    normalisers = logits.logsumexp(-1)
    logprobs = logits.gather(1, targets_N[:, None]).squeeze(1) - normalisers
    probabilities = (logits - normalisers[:, None]).exp_()
    # 0 log 0 = 0: an infinitely small logit adds nothing
    logits.clamp_(min=torch.finfo(logits.dtype).min)
    return logprobs, normalisers, normalisers - torch.linalg.vecdot(probabilities, logits)


def softmax_gradient(
    logits: Tensor, targets_N: Tensor, normalisers: Tensor, grad_N: Tensor, temperature: float
) -> Tensor:
    """Gradient of sum(grad · logprobs) by logits, in place: (onehot(target) - probabilities) · grad / temperature."""
    grad_N = grad_N / temperature
    probabilities = logits.div_(temperature).sub_(normalisers[:, None]).exp_()
    return probabilities.mul_(-grad_N[:, None]).scatter_add_(1, targets_N[:, None], grad_N[:, None])


def softmax_statistics_kernel(logits: Tensor, targets_N: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """`softmax_statistics` by the kernel: contiguous float32 logits and int64 targets, every target below V."""
    N, V = logits.shape
    found_3N = logits.new_empty(3, N)
    kernels.library().softmax_statistics(
        *(tensor.data_ptr() for tensor in (logits, targets_N, *found_3N)),
        *(N, V, 1.0 / temperature, kernels.threads_for(logits.numel())),
    )
    return found_3N[0], found_3N[1], found_3N[2]


def softmax_gradient_kernel(
    logits: Tensor, targets_N: Tensor, normalisers: Tensor, grad_N: Tensor, temperature: float
) -> Tensor:
    """`softmax_gradient` by the kernel, in place."""
    N, V = logits.shape
    grad_N = (grad_N / temperature).contiguous()
    kernels.library().softmax_gradient(
        *(tensor.data_ptr() for tensor in (logits, targets_N, normalisers, grad_N)),
        *(N, V, 1.0 / temperature, kernels.threads_for(logits.numel())),
    )
    return logits


def _takes(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> bool:
    """Whether the kernels may run: logits are float32 whatever the dtype of the factors is."""
    plain = type(hidden_ND) is Tensor and type(weight_VD) in (Tensor, torch.nn.Parameter)
    N, V = targets_N.numel(), weight_VD.shape[0]
    if not plain or N * V < kernels.SMALLEST or targets_N.dtype != torch.int64:
        return False
    if hidden_ND.device.type != "cpu" or hidden_ND.dtype == torch.float64 or int(targets_N.max()) >= V:
        return False
    return kernels.takes(torch.empty(0))


def _chunks(hidden_ND: Tensor, weight_VD: Tensor) -> list[slice]:
    rows = max(1, CHUNK_ELEMENTS // weight_VD.shape[0])
    return [slice(start, start + rows) for start in range(0, hidden_ND.shape[0], rows)]
