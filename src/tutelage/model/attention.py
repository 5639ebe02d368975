"""Attention: bfloat16 by the kernels of tile_attention.c on processors with a tile unit, else torch's own."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.model import kernels, tiles
from tutelage.model.fused import differentiable_gradients


class _Shape(ctypes.Structure):
    _sizes_ = ("batch", "heads", "kv_heads", "queries", "keys", "width")
    _strides_ = ("q", "k", "v", "out", "grad_out", "grad_q", "grad_k")
    _fields_ = [
        *((name, ctypes.c_int64) for name in _sizes_),
        *((name, ctypes.c_int64 * 3) for name in _strides_),
        *((name, ctypes.c_int64) for name in ("mask_batch", "mask_query")),
        ("scale", ctypes.c_float),
        ("threads", ctypes.c_int),
    ]


def attention(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q kᵀ / sqrt(E) + mask) v, [B, H, T, E]; mask [B or 1, 1, T, S], None: causal. Heads may share keys.

    What the mask has is 0 or -inf; a query that may attend to nothing gets 0 from the kernels.
    """
    if q_BHTE.numel() >= kernels.SMALLEST and _takes(q_BHTE, k_BKSE, v_BKSE, mask):
        out: Tensor = _TileAttention.apply(q_BHTE, k_BKSE, v_BKSE, mask)  # type: ignore[no-untyped-call]  # torch's apply
    else:
        shared = q_BHTE.shape[1] != k_BKSE.shape[1]
        out = F.scaled_dot_product_attention(
            q_BHTE, k_BKSE, v_BKSE, attn_mask=mask, is_causal=mask is None, enable_gqa=shared
        )
    return out


def plain_attention(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, mask: Tensor | None) -> Tensor:
    """The same written out, which can be differentiated as often as one likes."""
    B, H, T, E = q_BHTE.shape
    K, S = k_BKSE.shape[1:3]
    if mask is None:
        mask = q_BHTE.new_full((T, S), -torch.inf).triu(1)
    q_BKGTE = q_BHTE.reshape(B, K, H // K, T, E)
    scores = q_BKGTE @ k_BKSE[:, :, None].mT / math.sqrt(E) + mask.view(-1, 1, 1, T, S)
    return (scores.softmax(-1) @ v_BKSE[:, :, None]).reshape(B, H, T, E)


def _takes(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> bool:
    B, H, T, E = q.shape
    fits = mask is None and k.shape[2] == T
    of_one_kind = k.shape == v.shape and k.shape[0] == B and k.shape[3] == E and H % k.shape[1] == 0
    if E % tiles.BLOCK or not of_one_kind or not kernels.takes(q, k, v, dtype=torch.bfloat16):
        return False
    if mask is not None:
        shaped = mask.shape in ((B, 1, T, k.shape[2]), (1, 1, T, k.shape[2])) and mask.stride(-1) == 1
        fits = shaped and not mask.requires_grad and kernels.takes(mask, dtype=torch.bfloat16)
    return fits and tiles.available()


class _TileAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in (q, k, v))
        out, normalisers = _time_first(q), q.new_empty(q.shape[:3], dtype=torch.float32)
        shape = _shape(mask, q=q, k=k, v=v, out=out)
        kernels.library().attention_forward(ctypes.addressof(shape), *_pointers(q, k, v, mask, out, normalisers))
        ctx.save_for_backward(q, k, v, mask, out, normalisers)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, out, normalisers = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *differentiable_gradients(lambda q, k, v: plain_attention(q, k, v, mask), (q, k, v), grads[0]), None
        grad_out = grads[0] if grads[0].stride(-1) == 1 else grads[0].contiguous()
        grad_q, grad_k, grad_v = _time_first(q), _time_first(k), _time_first(v)
        shape = _shape(mask, q=q, k=k, v=v, out=out, grad_out=grad_out, grad_q=grad_q, grad_k=grad_k)
        given = _pointers(q, k, v, mask, out, normalisers, grad_out, grad_q, grad_k, grad_v)
        kernels.library().attention_backward(ctypes.addressof(shape), *given)
        return grad_q, grad_k, grad_v, None


def _shape(mask: Tensor | None, **tensors: Tensor) -> _Shape:
    B, H, T, E = tensors["q"].shape
    K, S = tensors["k"].shape[1:3]
    mask_strides = (0, 0) if mask is None else (0 if mask.shape[0] == 1 else mask.stride(0), mask.stride(2))
    shape = _Shape(B, H, K, T, S, E, mask_batch=mask_strides[0], mask_query=mask_strides[1])
    for name, tensor in tensors.items():
        setattr(shape, name, (ctypes.c_int64 * 3)(*tensor.stride()[:3]))
    shape.scale, shape.threads = E**-0.5, kernels.threads_for(B * H * T * S)
    return shape


def _pointers(*tensors: Tensor | None) -> list[int | None]:
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


def _time_first(x_BHTE: Tensor) -> Tensor:
    """An empty [B, H, T, E] that is [B, T, H, E] in memory: what projections read and write."""
    B, H, T, E = x_BHTE.shape
    return x_BHTE.new_empty(B, T, H, E).transpose(1, 2)
