"""The typed configuration of the stages of constitutional AI. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tutelage.run.artifacts import CompletionsInput, CritiquesInput, ModelInput, QuestionsInput
from tutelage.run.config import StageConfig
from tutelage.stages.replying.settings import ServerSettings

ENGINE = "A server instead, for example `{url: http://127.0.0.1:8000/v1, model: NAME}`; see sample."


class ConstitutionConfig(StageConfig):
    """Read the principles that replies are to follow."""

    stage: Literal["constitution"] = "constitution"
    path: str | list[str] = Field(
        default="package:constitutions/default.yaml",
        description="A file of principles, or several; `package:` is what comes with the code.",
    )
    principles: list[str] | None = Field(
        default=None, min_length=1, description="Take only the principles of these names; all of them if not given."
    )


class ReviseConfig(StageConfig):
    """Criticise replies by principles and write them anew."""

    stage: Literal["revise"] = "revise"
    completions: CompletionsInput = Field(description="The replies; those of another `revise` are revised further.")
    critiques: CritiquesInput = Field(description="The principles.")
    model: ModelInput | None = Field(
        default=None, description="Writes the revisions; beside an `engine`, the one that it serves, for the record."
    )
    engine: ServerSettings | None = Field(default=None, description=ENGINE)
    critic: Literal["rules", "model"] = Field(
        default="rules",
        description="Who criticises: the principle's rule, which also decides whether a revision is taken, or a model.",
    )
    critic_model: ModelInput | None = Field(
        default=None, description="Another model that writes the critiques of `critic: model`."
    )
    num_revisions: int = Field(default=4, ge=0, le=4, description="Principles that are drawn for each reply.")
    attempts: int = Field(
        default=8,
        ge=1,
        description="Revisions drawn at most of a reply that a rule objects to; the first that will do is taken.",
    )
    show: Literal["revisions", "dialogue"] | None = Field(
        default=None,
        description="What the writer is shown: the principle's examples as requests with their final replies, or the "
        "whole dialogue of reply, critique and revision. Default: `revisions` with rules, `dialogue` with a model.",
    )
    num_examples: int = Field(
        default=3, ge=0, description="Examples of the principle shown; fewer where they do not fit."
    )
    max_tokens: int = Field(default=64, ge=1, description="Longest critique and longest revision.")
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1, description="Draw from the likeliest tokens that sum to this.")
    min_p: float = Field(default=0.0, ge=0, le=1, description="Rule out tokens below this share of the likeliest one.")
    max_slots: int = Field(default=128, ge=1, description="Texts decoded at once; never changes a text.")
    precision: Literal["auto", "float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _somebody_writes(self) -> ReviseConfig:
        if self.model is None and self.engine is None and self.num_revisions:
            raise ValueError("nobody writes the revisions: name a `model`, or an `engine` that serves one")
        if self.critic_model is not None and self.critic == "rules":
            raise ValueError("`critic_model` writes nothing with `critic: rules`: set `critic: model`, or leave it out")
        return self


class JudgeConfig(StageConfig):
    """Compare replies by the questions of principles, with a probability for each label."""

    stage: Literal["judge"] = "judge"
    completions: CompletionsInput = Field(description="Several replies to each prompt.")
    questions: QuestionsInput = Field(description="The principles.")
    by: Literal["rules", "model"] = Field(
        default="rules", description="Who answers: the principles' rules, or a model that names one of two replies."
    )
    model: ModelInput | None = Field(default=None, description="The model that answers, with `by: model`.")
    engine: ServerSettings | None = Field(default=None, description=ENGINE)
    principles_a_pair: int | None = Field(
        default=None, ge=1, description="Principles drawn for each pair, whose answers are averaged; all if not given."
    )
    sharpness: float = Field(
        default=4.0, gt=0, description="By rules: P(a is better) = σ(`sharpness` · difference of the rule's scores)."
    )
    votes: int = Field(
        default=4, ge=1, description="By a server: answers asked for, for each order of the two replies."
    )
    least_lead: float = Field(
        default=0.05, ge=0, lt=0.5, description="Pairs whose probability is nearer to ½ than this are left out."
    )
    most_sure: float = Field(default=0.98, gt=0.5, le=1, description="No label is surer than this.")
    validation_share: float = Field(default=0.15, ge=0, lt=1, description="Share of the prompts, by their hash.")
    max_slots: int = Field(default=128, ge=1, description="Answers asked for at once; never changes one.")
    precision: Literal["auto", "float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _somebody_answers(self) -> JudgeConfig:
        if self.by == "model" and self.model is None and self.engine is None:
            raise ValueError("nobody answers: name a `model`, or an `engine` that serves one, or set `by: rules`")
        if self.by == "rules" and (self.model is not None or self.engine is not None):
            raise ValueError("a `model` or an `engine` answers nothing with `by: rules`: set `by: model`")
        return self
