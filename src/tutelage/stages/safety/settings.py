"""The typed configuration of the stages of safety. Imports nothing heavy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tutelage.run.artifacts import ArtifactType, CorpusInput, Takes
from tutelage.run.config import StageConfig

QuestionsWithAnswersInput = Annotated[
    str, Takes((ArtifactType.CONVERSATIONS, ArtifactType.PROMPTS, ArtifactType.TASKS, ArtifactType.COMPLETIONS))
]


class HonestyConfig(StageConfig):
    """Write conversations in which a model owns to what it does not know, and held-out items."""

    stage: Literal["honesty"] = "honesty"
    corpus: CorpusInput = Field(description="What the model has read: an invented name is never one that it has.")
    questions: QuestionsWithAnswersInput | list[QuestionsWithAnswersInput] = Field(
        description="Questions with answers: conversations, prompts or tasks that state one, replies that were right."
    )
    held_out: QuestionsWithAnswersInput | None = Field(
        default=None,
        description="Questions with answers to measure on, about names that `questions` do not have; without it, those "
        "about a share of the names are set aside.",
    )
    kinds: list[str] | None = Field(
        default=["fact"],
        description="Of rows that state a kind or have tags, use those of these; of all kinds if null.",
    )
    held_out_share: float = Field(
        default=0.25, gt=0, lt=1, description="Share of the wordings (and, without `held_out`, of the names) held out."
    )
    conversations: int = Field(default=3000, ge=2, description="Conversations to learn from.")
    unknown_share: float = Field(default=0.5, gt=0, lt=1, description="Share of them about invented names.")
    invented: int = Field(default=1500, ge=20, description="Names to invent, about.")
    recombined_share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Share of the invented names of several words that real words are put together to, not made up.",
    )
    min_names: int = Field(
        default=4, ge=2, description="Different names that a wording must have been used with to be used with others."
    )
    items: int = Field(default=200, ge=1, description="Held-out items of each task, at most.")
