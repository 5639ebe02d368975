"""Products of bfloat16 matrices with float32 sums, on processors with a tile unit (AMX; amx.h, tile_linear.c)."""

from __future__ import annotations

import ctypes

import torch.nn.functional as F
from torch import Tensor

from tutelage.model import kernels

BLOCK = 32  # AMX_BLOCK of amx.h
DEPTH = 512  # of tile_linear.c


def available() -> bool:
    """Whether processor, system and compiler let this process use tiles; only if there are `kernels`."""
    answer = ctypes.c_int(0)
    kernels.library().amx_answer(ctypes.addressof(answer))
    return bool(answer.value)


def pack(weight_OI: Tensor) -> Tensor:
    """A dense bfloat16 weight in panels of 32 outputs, as amx.h describes them, [O, I] filled up to whole blocks."""
    outputs, inputs = weight_OI.shape
    weight = F.pad(weight_OI, (0, -inputs % BLOCK)) if inputs % BLOCK else weight_OI
    panels = weight.new_empty(-(-outputs // BLOCK) * BLOCK, weight.shape[1])
    threads = kernels.threads_for(panels.numel())
    kernels.library().amx_pack(weight.data_ptr(), panels.data_ptr(), outputs, weight.shape[1], threads)
    return panels


def add_weight_gradient(grad_NO: Tensor, x_NI: Tensor, sums_OI: Tensor) -> None:
    """sums += gradᵀ x: bfloat16 factors, float32 sums, all dense and whole blocks of 32."""
    (tokens, outputs), inputs = grad_NO.shape, x_NI.shape[1]
    panels = x_NI.new_empty(inputs * min(tokens, DEPTH))
    kernels.library().add_weight_gradient(
        *(tensor.data_ptr() for tensor in (grad_NO, x_NI, sums_OI, panels)),
        *(tokens, outputs, inputs, kernels.threads_for(grad_NO.numel())),
    )
