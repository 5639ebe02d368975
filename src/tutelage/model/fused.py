"""RMS norm and SwiGLU: one kernel each way where `kernels` takes the tensors, the torch operations otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.model import kernels


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight over the last axis (Zhang & Sennrich, arXiv 1910.07467), in the dtype of x."""
    if x.numel() >= kernels.SMALLEST and weight.shape == x.shape[-1:] and kernels.takes_either(x):
        weight_float32 = weight.float()
        if kernels.takes(weight_float32):
            out: Tensor = _RMSNorm.apply(x.contiguous(), weight_float32.contiguous(), eps)  # type: ignore[no-untyped-call]  # torch's apply
            return out
    return torch_rms_norm(x, weight, eps)


def torch_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`rms_norm` by torch operations, in the wider of the two dtypes and rounded once."""
    dtype = torch.promote_types(x.dtype, weight.dtype)
    return F.rms_norm(x.to(dtype), (x.shape[-1],), weight.to(dtype), eps).to(x.dtype)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) · up, element by element (Shazeer, arXiv 2002.05202)."""
    if gate.numel() >= kernels.SMALLEST and gate.shape == up.shape and kernels.takes_either(gate, up):
        out: Tensor = _SwiGLU.apply(gate.contiguous(), up.contiguous())  # type: ignore[no-untyped-call]  # torch's apply
        return out
    return F.silu(gate) * up


def differentiable_gradients(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients by torch operations, which can be differentiated once more: what `create_graph` asks of a backward."""
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    found = iter(torch.autograd.grad(function(*inputs), wanted, grad, create_graph=True))
    return tuple(next(found) if tensor.requires_grad else None for tensor in inputs)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        width = x.shape[-1]
        rows = x.numel() // width
        y, scale = torch.empty_like(x), weight.new_empty(rows)
        threads = kernels.threads_for(x.numel())
        kernels.function("rms_norm_forward", x)(
            x.data_ptr(), weight.data_ptr(), y.data_ptr(), scale.data_ptr(), rows, width, eps, threads
        )
        ctx.save_for_backward(x, weight, scale)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *differentiable_gradients(lambda x, w: torch_rms_norm(x, w, ctx.eps), (x, weight), grads[0]), None
        grad_y, width = grads[0].contiguous(), x.shape[-1]
        rows = x.numel() // width
        grad_x, grad_weight = torch.empty_like(x), torch.empty_like(weight)
        partial = weight.new_empty(-(-rows // kernels.ROWS_PER_BLOCK), width)
        pointers = [tensor.data_ptr() for tensor in (grad_y, x, weight, scale, grad_x, partial, grad_weight)]
        kernels.function("rms_norm_backward", x)(*pointers, rows, width, kernels.threads_for(x.numel()))
        return grad_x, grad_weight, None


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        y, count = torch.empty_like(gate), gate.numel()
        kernels.function("swiglu_forward", gate)(
            gate.data_ptr(), up.data_ptr(), y.data_ptr(), count, kernels.threads_for(count)
        )
        ctx.save_for_backward(gate, up)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        if torch.is_grad_enabled():
            return differentiable_gradients(lambda gate, up: F.silu(gate) * up, (gate, up), grads[0])
        grad_y, count = grads[0].contiguous(), gate.numel()
        grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
        pointers = [tensor.data_ptr() for tensor in (grad_y, gate, up, grad_gate, grad_up)]
        kernels.function("swiglu_backward", gate)(*pointers, count, kernels.threads_for(count))
        return grad_gate, grad_up
