"""What gradient stages share: how they optimise, and the shape of a model that begins. Imports nothing heavy."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from tutelage.run.config import StageConfig, Strict


class OptimizerSettings(Strict):
    """AdamW for everything, or Muon for the matrices inside blocks and AdamW for the rest; one schedule."""

    kind: Literal["adamw", "muon"] = Field(
        default="adamw", description="muon: matrices inside blocks by Muon, the rest by AdamW"
    )
    learning_rate: float = Field(default=5e-4, gt=0, description="of AdamW")
    muon_learning_rate: float = Field(default=0.02, gt=0, description="of Muon, if it is used")
    muon_momentum: float = Field(default=0.95, ge=0, lt=1)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0, description="gradients are scaled down to this norm")
    warmup_share: float = Field(default=0.02, ge=0, le=1, description="share of the steps in which it rises from 0")
    decay_share: float = Field(default=0.5, ge=0, le=1, description="share of the steps, at the end, in which it falls")
    final_share: float = Field(default=0.0, ge=0, le=1, description="what the rate falls to after the last step")


class LoopSettings(Strict):
    """How often the loop looks up: evaluation, journal and checkpoints."""

    evaluate_every: int = Field(default=50, gt=0, description="steps")
    log_every: int = Field(default=1, gt=0, description="steps")
    checkpoint_seconds: float = Field(default=20.0, ge=0, description="at least this long between checkpoints")


class GradientConfig(StageConfig):
    """What all stages that train by gradients can be told."""

    optimizer: OptimizerSettings = OptimizerSettings()
    loop: LoopSettings = LoopSettings()
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="Of activations; weights are float32. `auto` measures which is faster here."
    )

    @field_validator("optimizer", "loop", mode="before")
    @classmethod
    def _onto_the_default(cls, value: Any, info: ValidationInfo) -> Any:
        """A part of the settings changes that part of this stage's default, not of some other one."""
        default = cls.model_fields[str(info.field_name)].default
        return {**default.model_dump(), **value} if isinstance(value, dict) else value


class ModelSettings(Strict):
    """The shape of a decoder; what is left out follows from the width."""

    model_type: Literal["llama", "qwen2", "qwen3"] = Field(
        default="qwen3", description="qwen3 normalises queries and keys, which makes high learning rates safe."
    )
    hidden_size: int = Field(default=128, ge=8, description="Width of the residual stream.")
    num_hidden_layers: int = Field(default=5, ge=1)
    num_attention_heads: int | None = Field(default=None, ge=1, description="Default: width / 64.")
    num_key_value_heads: int | None = Field(default=None, ge=1, description="Default: as many as query heads.")
    head_dim: int | None = Field(default=None, ge=2, description="Default: width / heads.")
    intermediate_size: int | None = Field(default=None, ge=1, description="Default: 8/3 of the width.")
    rope_theta: float = Field(default=10_000.0, gt=0)
    tie_word_embeddings: bool = Field(default=False, description="One matrix for embeddings and output head.")
    initializer_range: float = Field(default=0.02, gt=0)
    embedding_std: float | None = Field(
        default=None, gt=0, description="Of the first token embeddings; default: initializer_range."
    )


Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class LoRASettings(Strict):
    """Low-rank adapters beside frozen weights."""

    rank: int = Field(default=8, ge=1, description="Of the product that is added to a matrix.")
    alpha: float = Field(default=16.0, gt=0, description="The product is multiplied by alpha / rank.")
    target_modules: tuple[Target, ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="The maps of a block that are adapted.",
    )


class FineTuneConfig(GradientConfig):
    """What stages that go on from a model can be told: train all weights, or an adapter."""

    lora: LoRASettings | None = Field(
        default=None,
        description="Train low-rank adapters beside frozen weights, for example `{rank: 8, alpha: 16}`; the model is "
        "published merged, the adapter beside it in `adapter/`.",
    )
