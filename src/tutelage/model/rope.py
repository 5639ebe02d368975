"""Rotary position embedding (Su et al., arXiv 2104.09864), in the half-split layout of Hugging Face weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tutelage.model.config import ModelConfig, RopeScaling


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
    """Cosines and signed sines [B, 1, T, E]: computed in float32, then cast.

    The first half of the sines carries the minus sign of the rotation, so that applying is two products and a sum.
    """
    angles_BTE = positions_BT[..., None].float() * frequencies
    cos, sin = angles_BTE.cos(), angles_BTE.sin()
    return torch.cat((cos, cos), -1)[:, None].to(dtype), torch.cat((-sin, sin), -1)[:, None].to(dtype)


def rotate(x_BHTE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn every plane of queries or keys by its position's angle."""
    return x_BHTE * cos + x_BHTE.roll(x_BHTE.shape[-1] // 2, -1) * sin
