"""`linear_logprobs` in bfloat16 on processors with a tile unit: float32 logits, never all in memory (tile_logprobs.c).

The backward pass computes the logits again: on such processors that is quicker than to write and read them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from tutelage.model import kernels, tiles
from tutelage.model.tiles import BLOCK

CHUNK_ELEMENTS = 1 << 24  # gradients of logits that exist at a time: 32 MB


def takes(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> bool:
    """Whether hidden states and weights may go to the kernels: bfloat16 states, and a processor that has the unit."""
    N, V = targets_N.numel(), weight_VD.shape[0]
    if N * V < kernels.SMALLEST or targets_N.dtype != torch.int64 or hidden_ND.dtype != torch.bfloat16:
        return False
    taken = kernels.takes(hidden_ND, dtype=torch.bfloat16) and kernels.takes(weight_VD, dtype=weight_VD.dtype)
    return taken and tiles.available() and int(targets_N.max()) < V


class _TileLogprobs(torch.autograd.Function):
    """Log-probabilities and entropies, float32, of bfloat16 states and weights of any dtype, which are rounded."""

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        ctx.weight_dtype, ctx.temperature = weight_VD.dtype, temperature
        hidden_ND, weight_VD = hidden_ND.contiguous(), weight_VD.to(torch.bfloat16).contiguous()
        panels = tiles.pack(weight_VD)
        N, V = len(hidden_ND), len(weight_VD)
        found_3N = torch.empty(3, N)
        blocks = _whole_blocks(hidden_ND)
        kernels.library().head_statistics(
            *(tensor.data_ptr() for tensor in (blocks, panels, targets_N, *found_3N)),
            *(N, blocks.shape[1], V, 1.0 / temperature, kernels.threads_for(N * V)),
        )
        logprobs, normalisers, entropies = found_3N
        ctx.save_for_backward(hidden_ND, weight_VD, panels, targets_N, normalisers)
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        hidden_ND, weight_VD, panels, targets_N, normalisers = ctx.saved_tensors
        scaled_N, (V, D) = (grads[0] / ctx.temperature).contiguous(), weight_VD.shape
        blocks, grad_hidden = _whole_blocks(hidden_ND), torch.empty_like(hidden_ND)
        grad_weight = torch.zeros(V, D) if ctx.needs_input_grad[1] else None
        rows = max(BLOCK, CHUNK_ELEMENTS // V // BLOCK * BLOCK)
        buffer = hidden_ND.new_zeros(min(rows, len(blocks)), V)
        for start in range(0, len(hidden_ND), rows):
            part = slice(start, start + rows)
            given = (blocks[part], panels, targets_N[part], normalisers[part], scaled_N[part])
            grad_logits = buffer[: len(given[2])]
            kernels.library().head_gradient(
                *(tensor.data_ptr() for tensor in (*given, grad_logits)),
                *(len(grad_logits), blocks.shape[1], V, 1.0 / ctx.temperature, kernels.threads_for(buffer.numel())),
            )
            torch.mm(grad_logits, weight_VD, out=grad_hidden[part])
            if grad_weight is not None:
                _add_weight_gradient(buffer, blocks[part], hidden_ND[part], grad_weight)
        return grad_hidden, None if grad_weight is None else grad_weight.to(ctx.weight_dtype), None, None


def _add_weight_gradient(buffer: Tensor, blocks: Tensor, hidden_ND: Tensor, grad_weight: Tensor) -> None:
    """Add gradᵀ hidden. The buffer's rows after the last hidden state may still be those of the chunk before."""
    if all(size % BLOCK == 0 for size in grad_weight.shape):
        buffer[len(hidden_ND) :] = 0
        tiles.add_weight_gradient(buffer[: len(blocks)], blocks, grad_weight)
    else:
        grad_weight += buffer[: len(hidden_ND)].T @ hidden_ND


def linear_logprobs(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probabilities [N] and entropies [N]; only what `takes` says yes to."""
    found: tuple[Tensor, Tensor] = _TileLogprobs.apply(hidden_ND, weight_VD, targets_N, temperature)  # type: ignore[no-untyped-call]  # torch's apply
    return found


def _whole_blocks(hidden_ND: Tensor) -> Tensor:
    N, D = hidden_ND.shape
    return F.pad(hidden_ND, (0, -D % BLOCK, 0, -N % BLOCK)) if N % BLOCK or D % BLOCK else hidden_ND
