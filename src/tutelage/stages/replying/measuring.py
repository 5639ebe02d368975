"""Settings of `evaluate`, who is measured, on what, against whom, and of `report`, what is shown of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tutelage.evaluation.report.claims import Claim
from tutelage.run.artifacts import AnyInput, ModelInput, ReportInput, ResultsInput, TasksInput, TokensInput
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
    tasks: TasksInput | list[TasksInput] | None = Field(
        default=None, description="Held-out items, of one stage or several."
    )
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


class ReportConfig(StageConfig):
    """Put the whole run on one page: everything that led to the results and to the artifacts named here."""

    stage: Literal["report"] = "report"
    results: list[ResultsInput] = Field(
        default_factory=list, description="Results to show: one stage's, or a list of them."
    )
    reports: list[ReportInput] = Field(
        default_factory=list, description="Reports whose claims are shown as well, under their titles."
    )
    artifacts: list[AnyInput] = Field(
        default_factory=list,
        validate_default=True,
        description="More artifacts whose making is to be described; all that led to them is.",
    )
    title: str = Field(default="", description="The page's title; the recipe's name without one.")
    claims: list[Claim] | None = Field(
        default=None, description="What the run is asked to show; without it, the claims of the whole lifecycle."
    )

    @field_validator("results", "reports", "artifacts", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("artifacts")
    @classmethod
    def _not_about_nothing(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if not value and not info.data.get("results") and not info.data.get("reports"):
            raise ValueError("a report needs `results`, `reports` or `artifacts`: what is it to be about?")
        return value
