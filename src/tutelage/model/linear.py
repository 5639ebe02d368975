"""A linear map in the dtype of its input.

In bfloat16, where there is a tile unit and batch and weight have whole blocks of 32, the weight's gradient is a float32
sum.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.model import kernels, tiles
from tutelage.model.fused import differentiable_gradients


def linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """x Wᵀ (+ b), in the dtype of x."""
    if x.numel() >= kernels.SMALLEST and weight_OI.requires_grad and torch.is_grad_enabled() and _takes(x, weight_OI):
        out: Tensor = _TileLinear.apply(x, weight_OI, bias_O)  # type: ignore[no-untyped-call]  # torch's apply
        return out
    return _linear(x, weight_OI, bias_O)


def _linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    return F.linear(x, weight_OI.to(x.dtype), None if bias_O is None else bias_O.to(x.dtype))


def _takes(x: Tensor, weight_OI: Tensor) -> bool:
    sizes = (x.numel() // x.shape[-1], *weight_OI.shape)
    if any(size % tiles.BLOCK for size in sizes) or x.dtype is not torch.bfloat16:
        return False
    return kernels.takes(x, dtype=torch.bfloat16) and kernels.takes(weight_OI) and tiles.available()


class _TileLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        rounded_OI = weight_OI.bfloat16()
        ctx.save_for_backward(x, weight_OI, rounded_OI, bias_O)
        return _linear(x, rounded_OI, bias_O)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_OI, rounded_OI, bias_O = ctx.saved_tensors
        if torch.is_grad_enabled():
            given = (x, weight_OI) if bias_O is None else (x, weight_OI, bias_O)
            found = differentiable_gradients(lambda x, w, b=None: _linear(x, w, b), given, grads[0])
            return (*found, None)[:3]
        outputs, inputs = weight_OI.shape
        grad_NO = grads[0].reshape(-1, outputs).contiguous()
        grad_x = (grad_NO @ rounded_OI).view(x.shape) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros(outputs, inputs)
        tiles.add_weight_gradient(grad_NO, x.reshape(-1, inputs).contiguous(), grad_weight)
        grad_bias = None if bias_O is None else grad_NO.float().sum(0).to(bias_O.dtype)
        return grad_x, grad_weight, grad_bias
