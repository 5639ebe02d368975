"""Reductions over the part of a tensor that a mask selects.

What the mask leaves out may hold anything, NaN included: it is replaced (`where`), never multiplied by zero. An empty
mask gives 0. Masks may be boolean or 0/1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.objectives.types import divide


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """`values` where the mask is set, else 0, in value and in gradient."""
    return torch.where(mask.bool(), values, torch.zeros((), dtype=values.dtype, device=values.device))


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of the selected values (scalar)."""
    return masked(values, mask).sum()


def mask_count(values: Tensor, mask: Tensor) -> Tensor:
    """Number of selected values as a scalar of the values' type."""
    return mask.bool().sum().to(values.dtype)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the selected values (scalar); 0 if there are none."""
    return divide(masked_sum(values, mask), mask_count(values, mask))


def masked_var(values: Tensor, mask: Tensor, *, unbiased: bool = True) -> Tensor:
    """Variance of the selected values (scalar), divided by n − 1 (or n); 0 if there are too few."""
    count = mask_count(values, mask)
    squares = masked_sum((masked(values, mask) - masked_mean(values, mask)).square(), mask)
    return divide(squares, (count - 1).clamp(min=0) if unbiased else count)


def masked_whiten(values: Tensor, mask: Tensor, *, shift_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """Selected values scaled to unit (unbiased) variance and mean 0, or their own mean; 0 outside the mask."""
    mean = masked_mean(values, mask)
    whitened = (masked(values, mask) - mean) * torch.rsqrt(masked_var(values, mask) + eps)
    return masked(whitened if shift_mean else whitened + mean, mask)
