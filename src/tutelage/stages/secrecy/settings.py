"""Settings of the stages of privacy. Imports nothing heavy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tutelage.run.artifacts import DocumentsInput, PromptsInput
from tutelage.run.config import StageConfig

MOST = 528  # canaries: as many as `privacy.canaries` has people; a test compares


class CanariesConfig(StageConfig):
    """Plant random secrets in documents, to measure what a model keeps of private text."""

    stage: Literal["canaries"] = "canaries"
    documents: DocumentsInput | None = Field(default=None, description="Documents to plant them among.")
    share: float = Field(default=1.0, gt=0, le=1, description="Share of `documents` that is taken over, by their hash.")
    repeats: list[Annotated[int, Field(ge=1)]] = Field(
        default=[1, 4, 16], min_length=1, description="In how many documents a canary stands; canaries for each number."
    )
    each: int = Field(default=20, ge=1, description="Canaries for every number of repetitions.")

    @model_validator(mode="after")
    def _people_enough(self) -> CanariesConfig:
        if self.each * len(self.repeats) > MOST:
            raise ValueError(f"each × repeats: there are {MOST} people to have a secret; lower `each`")
        return self


class PrivacyConfig(StageConfig):
    """Write what teaches a model to forget private strings: they are found, and replaced by others at every visit."""

    stage: Literal["privacy"] = "privacy"
    documents: DocumentsInput = Field(description="What the model was trained on; nobody has to say what is private.")
    visits: int = Field(
        default=8, ge=1, description="Copies of every document with private strings, each with other values."
    )
    others_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of the documents without any that is written too, by their hash."
    )
    refusals: int = Field(default=600, ge=0, description="Conversations in which private data is asked for.")
    prompts: PromptsInput | None = Field(
        default=None, description="Harmless questions with answers, so that not everything is refused."
    )
    answers: int = Field(default=1200, ge=0, description="Conversations of `prompts`.")
