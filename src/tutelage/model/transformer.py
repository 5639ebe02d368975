"""The decoder: embeddings, blocks of attention and SwiGLU, a final norm and the output head.

Parameters are named as in Hugging Face's Llama, Qwen2 and Qwen3 folders. Parameters may be float32 while the
computation is bf16: every layer casts its weights to the dtype of the activations, which `compute_dtype` sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from tutelage.model.attention import attention
from tutelage.model.config import ModelConfig
from tutelage.model.fused import rms_norm, swiglu
from tutelage.model.linear import linear
from tutelage.model.logprobs import TokenLogprobs, linear_logprobs
from tutelage.model.rope import inverse_frequencies, rotary_tables, rotate
from tutelage.model.segments import segment_mask
from tutelage.model.top_logprobs import LogprobsAt, linear_logprobs_at


class KeyValueCache(Protocol):
    """Where a block leaves its keys and values and finds all earlier ones."""

    def update(self, layer: int, keys_BKTE: Tensor, values_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new keys and values, return all that may be attended to."""


class Linear(nn.Linear):
    """A linear map whose parameters follow the activations' dtype."""

    def forward(self, input: Tensor) -> Tensor:
        """x W^T (+ b), in the dtype of x."""
        return linear(input, self.weight, self.bias)

    def matrix(self) -> Tensor:
        """W as the map applies it, [out, in]: what whoever computes the map by other means must take."""
        return self.weight


class RMSNorm(nn.Module):
    """Root-mean-square normalisation (Zhang & Sennrich, arXiv 1910.07467)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x / rms(x) · weight over the last axis."""
        return rms_norm(x, self.weight, self.eps)


@dataclass
class AttentionContext:
    """What all blocks of one forward share: rotary tables, the mask, the cache."""

    cos: Tensor
    sin: Tensor
    mask: Tensor | None  # [B, 1, T, S], 0 = may attend, -inf = may not; None: causal
    cache: KeyValueCache | None


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al., arXiv 2305.13245) with rotary positions."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads, self.num_kv_heads, self.head_dim = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        width, kv_width = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        self.q_proj = Linear(config.hidden_size, width, bias=config.qkv_bias)
        self.k_proj = Linear(config.hidden_size, kv_width, bias=config.qkv_bias)
        self.v_proj = Linear(config.hidden_size, kv_width, bias=config.qkv_bias)
        self.o_proj = Linear(width, config.hidden_size, bias=config.o_bias)
        self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else None

    def forward(self, x_BTD: Tensor, context: AttentionContext) -> Tensor:
        """Mix each position with those it may attend to."""
        B, T, _ = x_BTD.shape
        q = self.q_proj(x_BTD).view(B, T, self.num_heads, self.head_dim)
        k = self.k_proj(x_BTD).view(B, T, self.num_kv_heads, self.head_dim)
        v = self.v_proj(x_BTD).view(B, T, self.num_kv_heads, self.head_dim).transpose(1, 2)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q = rotate(q.transpose(1, 2), context.cos, context.sin)
        k = rotate(k.transpose(1, 2), context.cos, context.sin)
        if context.cache is not None:
            k, v = context.cache.update(self.layer, k, v)
        mixed = attention(q, k, v, context.mask)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(B, T, -1))
        return out


class MLP(nn.Module):
    """SwiGLU feed-forward (Shazeer, arXiv 2002.05202)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """down(silu(gate(x)) · up(x))."""
        out: Tensor = self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))
        return out


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x_BTD: Tensor, context: AttentionContext) -> Tensor:
        """One layer."""
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), context)
        out: Tensor = x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))
        return out


class Decoder(nn.Module):
    """Token embeddings, blocks and the final norm: ids → hidden states."""

    inverse_frequencies: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.register_buffer("inverse_frequencies", inverse_frequencies(config), persistent=False)

    def forward(
        self,
        input_ids_BT: Tensor,
        position_ids_BT: Tensor,
        mask: Tensor | None,
        dtype: torch.dtype,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Hidden states [B, T, D] after the final norm."""
        cos, sin = rotary_tables(self.inverse_frequencies, position_ids_BT, torch.float32)
        context = AttentionContext(cos, sin, None if mask is None else additive_mask(mask, dtype), cache)
        x_BTD = self.embed_tokens(input_ids_BT).to(dtype)
        for layer in self.layers:
            x_BTD = layer(x_BTD, context)
        out: Tensor = self.norm(x_BTD)
        return out


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a mask is true and -inf where it is not: what attention would make of it anew in every layer."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -torch.inf)


class CausalLM(nn.Module):
    """A decoder with its output head. `compute_dtype` is the dtype of activations; parameters keep their own."""

    def __init__(self, config: ModelConfig, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        self.model = Decoder(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def hidden(
        self,
        input_ids_BT: Tensor,
        position_ids_BT: Tensor | None = None,
        segment_ids_BT: Tensor | None = None,
    ) -> Tensor:
        """Hidden states [B, T, D]; without segments every row is one causal sequence."""
        if position_ids_BT is None:
            position_ids_BT = torch.arange(input_ids_BT.shape[1], device=input_ids_BT.device).expand_as(input_ids_BT)
        mask = None if segment_ids_BT is None else segment_mask(segment_ids_BT)
        out: Tensor = self.model(input_ids_BT, position_ids_BT, mask, self.compute_dtype)
        return out

    def forward(
        self,
        input_ids_BT: Tensor,
        position_ids_BT: Tensor | None = None,
        segment_ids_BT: Tensor | None = None,
        *,
        targets_BT: Tensor | None = None,
        tokens_NK: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor | TokenLogprobs | LogprobsAt:
        """Logits [B, T, V] in float32 or, given targets, `TokenLogprobs` without ever holding all logits.

        Given K tokens for each of the N targets besides, row after row, `LogprobsAt` those.
        """
        hidden = self.hidden(input_ids_BT, position_ids_BT, segment_ids_BT)
        if targets_BT is not None and tokens_NK is not None:
            return linear_logprobs_at(hidden, self.lm_head.weight, targets_BT, tokens_NK, temperature)
        if targets_BT is not None:
            return linear_logprobs(hidden, self.lm_head.weight, targets_BT, temperature)
        logits: Tensor = self.lm_head(hidden)
        return logits.float()


def initialise(
    model: CausalLM, seed: int, embedding_std: float | None = None, *, zero_outputs: bool = True
) -> CausalLM:
    """Random weights from a seed: normal(0, initializer_range), embeddings normal(0, embedding_std).

    Residual outputs start at zero, if wanted: every block is the identity at first, which suits Muon.
    Embeddings far smaller than one step of the optimiser would be thrown about by the first steps.
    """
    generator = torch.Generator().manual_seed(seed)
    residual_outputs: Sequence[str] = ("o_proj.weight", "down_proj.weight")
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 1:
            nn.init.ones_(parameter)
        elif zero_outputs and name.endswith(tuple(residual_outputs)):
            nn.init.zeros_(parameter)
        elif name.endswith("embed_tokens.weight") and embedding_std is not None:
            nn.init.normal_(parameter, 0.0, embedding_std, generator=generator)
        else:
            nn.init.normal_(parameter, 0.0, model.config.initializer_range, generator=generator)
    return model
