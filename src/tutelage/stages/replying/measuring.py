"""Settings of `evaluate`: who is measured, on what, against whom."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tutelage.run.artifacts import ModelInput, TasksInput, TokensInput
from tutelage.run.config import StageConfig
from tutelage.stages.replying.settings import ServerSettings


class EvaluateConfig(StageConfig):
    """Put models through the same held-out items."""

    stage: Literal["evaluate"] = "evaluate"
    models: dict[str, ModelInput] = Field(default={}, description="Label → model.")
    engines: dict[str, ServerSettings] = Field(
        default={},
        description="Label → a server with a model to be measured, for example `{aligned: {url: …, model: NAME}}`.",
    )
    tasks: TasksInput | None = Field(default=None, description="Held-out items.")
    tokens: TokensInput | None = Field(default=None, description="Held-out text, for bits a byte.")
    reference: str | None = Field(default=None, description="Label of the model that win rates and KL are against.")
    teacher: str | None = Field(
        default=None, description="Label of the model that the others learnt from; they are measured against it."
    )
    max_tokens: int = Field(default=80, ge=1, description="Longest reply.")
    preference_temperature: float = Field(default=0.7, ge=0, description="Of replies compared; others are greedy.")
    weights: dict[str, float] = Field(default={}, description="Other weights of criteria than the default.")
    precision: Literal["auto", "float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _somebody_is_measured(self) -> EvaluateConfig:
        if not self.models and not self.engines:
            raise ValueError("nobody is measured: name `models`, or `engines` that serve some")
        twice = sorted(set(self.models) & set(self.engines))
        if twice:
            raise ValueError(f"the label {twice[0]!r} is among `models` and `engines`: give one another")
        if any(settings.n > 1 for settings in self.engines.values()):
            raise ValueError("every item is asked once: leave `n` out of `engines`")
        return self
