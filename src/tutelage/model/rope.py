"""Rotary position embedding (Su et al., arXiv 2104.09864), in the half-split layout of Hugging Face weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tutelage.model import kernels
from tutelage.model.config import ModelConfig, RopeScaling
from tutelage.model.fused import differentiable_gradients


def inverse_frequencies(config: ModelConfig) -> Tensor:
    """Angular step a position for each of the E/2 planes, float32."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = 1.0 / (config.rope_theta**exponents)
    return frequencies if config.rope_scaling is None else _llama3(frequencies, config.rope_scaling)


def _llama3(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Slow waves are slowed by `factor`, fast ones kept, those between blended."""
    wavelengths = 2 * math.pi / frequencies
    turns = scaling.original_max_position_embeddings / wavelengths
    blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = blend.clamp(0.0, 1.0)
    return (1 - blend) * frequencies / scaling.factor + blend * frequencies


def rotary_tables(frequencies: Tensor, positions_BT: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines [B, 1, T, E] ([1, 1, T, E] for expanded positions): in float32, then cast.

    The first half of the sines carries the minus sign of the rotation, so that applying is two products and a sum.
    """
    if positions_BT.stride(0) == 0:  # one row, shown B times
        positions_BT = positions_BT[:1]
    angles_BTE = positions_BT[..., None].float() * frequencies
    cos, sin = angles_BTE.cos(), angles_BTE.sin()
    return torch.cat((cos, cos), -1)[:, None].to(dtype), torch.cat((-sin, sin), -1)[:, None].to(dtype)


def rotate(x_BHTE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn every plane of queries or keys by its position's angle; tables as from `rotary_tables`, best in float32."""
    if x_BHTE.numel() >= kernels.SMALLEST and _takes(x_BHTE, cos, sin):
        out: Tensor = _Rotate.apply(x_BHTE, cos, sin)  # type: ignore[no-untyped-call]  # torch's apply
        return out
    return _rotate(x_BHTE, cos, sin)


def _rotate(x_BHTE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    turned = x_BHTE * cos + x_BHTE.roll(x_BHTE.shape[-1] // 2, -1) * sin
    return turned.to(x_BHTE.dtype)


def _takes(x_BHTE: Tensor, cos: Tensor, sin: Tensor) -> bool:
    if x_BHTE.ndim != 4 or x_BHTE.shape[-1] % 2 or cos.requires_grad or sin.requires_grad:
        return False
    B, _, T, E = x_BHTE.shape
    tables = cos.shape == sin.shape and cos.shape in ((B, 1, T, E), (1, 1, T, E))
    return (
        tables
        and cos.is_contiguous()
        and sin.is_contiguous()
        and kernels.takes_either(x_BHTE)
        and kernels.takes(cos, sin)
    )


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BHTE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x_BHTE, cos, sin, backward=False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        cos, sin = ctx.saved_tensors
        if torch.is_grad_enabled():
            # linear in x: the gradient is the same at every x
            x = torch.zeros_like(grads[0], requires_grad=True)
            return differentiable_gradients(lambda x: _rotate(x, cos, sin), (x,), grads[0])[0], None, None
        return _turn(grads[0], cos, sin, backward=True), None, None


def _turn(x_BHTE: Tensor, cos: Tensor, sin: Tensor, *, backward: bool) -> Tensor:
    """The kernel, on whatever layout x has; only its last axis must be dense."""
    if x_BHTE.stride(-1) != 1:
        x_BHTE = x_BHTE.contiguous()
    B, H, T, E = x_BHTE.shape
    # [B, T, H, E] in memory: what projections write and what attention's output is merged from
    y_BHTE = x_BHTE.new_empty(B, T, H, E).transpose(1, 2)
    table_batch = 0 if cos.shape[0] == 1 else T * E
    kernels.function("rotate", x_BHTE)(
        *(tensor.data_ptr() for tensor in (x_BHTE, y_BHTE, cos, sin)),
        *(B, H, T, E, table_batch, *x_BHTE.stride()[:3], *y_BHTE.stride()[:3]),
        backward,
        kernels.threads_for(x_BHTE.numel()),
    )
    return y_BHTE
