"""The shape of a decoder of the Llama family, read from and written to Hugging Face `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.errors import ArtifactError

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's frequency scaling (arXiv 2407.21783 and its released configuration)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclass(frozen=True)
class ModelConfig:
    """A decoder: RMSNorm, RoPE, grouped-query attention, SwiGLU; Qwen2's q/k/v biases, Qwen3's q/k norm."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    model_type: str = "llama"
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    tie_word_embeddings: bool = False
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    initializer_range: float = 0.02

    @property
    def qk_norm(self) -> bool:
        """Whether queries and keys are normalised per head (Qwen3)."""
        return self.model_type == "qwen3"

    def to_dict(self) -> dict[str, Any]:
        """The `config.json` that transformers 4 and 5 both read (rope in both layouts)."""
        scaling = None if self.rope_scaling is None else {"rope_type": "llama3", **vars(self.rope_scaling)}
        rope = {"rope_theta": self.rope_theta, **(scaling or {"rope_type": "default"})}
        biases = {"attention_bias": self.qkv_bias, "mlp_bias": self.mlp_bias} if self.model_type == "llama" else {}
        return {
            "architectures": [ARCHITECTURES[self.model_type]],
            "model_type": self.model_type,
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            "dtype": "float32",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": scaling,
            "rope_parameters": rope,
            "tie_word_embeddings": self.tie_word_embeddings,
            "initializer_range": self.initializer_range,
            **biases,
        }


def model_config_from_dict(data: Mapping[str, Any], where: str = "config.json") -> ModelConfig:
    """Read a Hugging Face configuration, of transformers 4 or 5.

    Raises ArtifactError for a missing field, an architecture that is not of the Llama family, or a feature
    (sliding windows, another activation or rope type) that this decoder would compute wrongly.
    """
    model_type = data.get("model_type")
    if model_type not in ARCHITECTURES:
        raise ArtifactError(
            f"{where}: model_type {model_type!r} is not supported",
            hint=f"models of these types can be loaded: {', '.join(ARCHITECTURES)}",
        )
    if data.get("hidden_act", "silu") != "silu":
        raise ArtifactError(f"{where}: hidden_act {data['hidden_act']!r}: this decoder computes SwiGLU (silu) only")
    if data.get("use_sliding_window"):
        raise ArtifactError(f"{where}: use_sliding_window is set: this decoder attends to the whole context")
    try:
        return _checked(_read(data, model_type, where), where)
    except KeyError as error:
        raise ArtifactError(
            f"{where}: the field {error} is missing", hint="is this a decoder's config.json?"
        ) from error
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{where}: a field has a value of the wrong type: {error}") from error


def _read(data: Mapping[str, Any], model_type: str, where: str) -> ModelConfig:
    hidden_size, num_heads = int(data["hidden_size"]), int(data["num_attention_heads"])
    rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
    return ModelConfig(
        model_type=model_type,
        vocab_size=int(data["vocab_size"]),
        hidden_size=hidden_size,
        intermediate_size=int(data["intermediate_size"]),
        num_hidden_layers=int(data["num_hidden_layers"]),
        num_attention_heads=num_heads,
        num_key_value_heads=int(data.get("num_key_value_heads") or num_heads),
        head_dim=int(data.get("head_dim") or hidden_size // num_heads),
        max_position_embeddings=int(data.get("max_position_embeddings", 2048)),
        rms_norm_eps=float(data.get("rms_norm_eps", 1e-6)),
        rope_theta=float(rope.get("rope_theta") or data.get("rope_theta") or 10_000.0),
        rope_scaling=_rope_scaling(rope, where),
        tie_word_embeddings=bool(data.get("tie_word_embeddings", False)),
        qkv_bias=model_type == "qwen2" or bool(data.get("attention_bias", False)),
        o_bias=model_type != "qwen2" and bool(data.get("attention_bias", False)),
        mlp_bias=bool(data.get("mlp_bias", False)),
        initializer_range=float(data.get("initializer_range", 0.02)),
    )


def _checked(config: ModelConfig, where: str) -> ModelConfig:
    problem = shape_problem(config)
    if problem:
        raise ArtifactError(f"{where}: {problem}")
    return config


def shape_problem(config: ModelConfig) -> str | None:
    """What makes a shape impossible, as a sentence; None if nothing does."""
    if config.head_dim < 2:
        return f"head_dim is {config.head_dim}: {config.num_attention_heads} heads are too many for this width"
    if config.head_dim % 2:
        return f"head_dim is {config.head_dim}, but rotary positions turn pairs of numbers: it must be even"
    if config.num_attention_heads % config.num_key_value_heads:
        return (
            f"num_attention_heads is {config.num_attention_heads}, which {config.num_key_value_heads} "
            "(num_key_value_heads) does not divide"
        )
    return None


def _rope_scaling(rope: Mapping[str, Any], where: str) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise ArtifactError(f"{where}: rope_type {kind!r} is not supported", hint="use `default` or `llama3`")
    return RopeScaling(
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_max_position_embeddings=int(rope["original_max_position_embeddings"]),
    )
