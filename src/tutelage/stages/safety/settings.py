"""The typed configuration of the stages of safety. Imports nothing heavy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tutelage.run.artifacts import (
    ArtifactType,
    CompletionsInput,
    CorpusInput,
    ModelInput,
    PromptsInput,
    Takes,
    TasksInput,
)
from tutelage.run.config import StageConfig
from tutelage.stages.constitutional.settings import ENGINE
from tutelage.stages.replying.settings import ServerSettings

QuestionsWithAnswersInput = Annotated[
    str, Takes((ArtifactType.CONVERSATIONS, ArtifactType.PROMPTS, ArtifactType.TASKS, ArtifactType.COMPLETIONS))
]


class HonestyConfig(StageConfig):
    """Write conversations and pairs in which a model owns to what it does not know, and held-out items."""

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
        default=0.25,
        gt=0,
        lt=1,
        description="Share of invented names and wordings (and, without `held_out`, of real names) held out, by hash.",
    )
    conversations: int = Field(default=3000, ge=2, description="Conversations to learn from.")
    unknown_share: float = Field(default=0.5, gt=0, lt=1, description="Share of them about invented names.")
    familiar: int = Field(
        default=2000,
        ge=0,
        description="More of them, which ask whether a name is known: half have names of the corpus, none of an item.",
    )
    preferences: int = Field(
        default=1000,
        ge=0,
        description="Pairs of replies: “I don't know” before what is made up, what is known before “I don't know”.",
    )
    preferences_unknown_share: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Share of the pairs about invented names; a larger one owns to more and answers less.",
    )
    validation_share: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the names whose pairs are for validation."
    )
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


class RedteamConfig(StageConfig):
    """Attack a model with wrapped requests; what succeeds becomes training data, and kinds of attack are held out."""

    stage: Literal["redteam"] = "redteam"
    model: ModelInput | None = Field(
        default=None, description="The model attacked; beside an `engine`, the one that it serves, for the record."
    )
    engine: ServerSettings | None = Field(default=None, description=ENGINE)
    prompts: PromptsInput = Field(description="Requests, harmful and harmless ones, by their kinds.")
    held_out: TasksInput | None = Field(
        default=None,
        description="Requests to measure on, by the same kinds; without it, a quarter of the prompts is set aside.",
    )
    previous: CompletionsInput | None = Field(
        default=None, description="The `attempts` of the round before: kinds that succeeded are tried more often."
    )
    harmful: list[str] = Field(default=["harmful"], min_length=1, description="Kinds of prompts to be declined.")
    harmless: list[str] = Field(default=["lookalike"], description="Kinds of prompts that must stay answered.")
    attacks: str | list[str] = Field(
        default="package:safety/attacks.yaml",
        description="Files of attacks by kind; `package:` is what comes with the code.",
    )
    held_out_kinds: list[str] = Field(
        default=["flattery", "past_tense", "research", "split"],
        description="Kinds of attack that are measured and never made training data of.",
    )
    attacker: ModelInput | None = Field(default=None, description="A model that writes more attacks, as kind `model`.")
    attacker_engine: ServerSettings | None = Field(default=None, description="A server in its place; see sample.")
    judge: ModelInput | None = Field(
        default=None, description="A model that says whether a reply helps; without it, a reply that does not decline."
    )
    judge_engine: ServerSettings | None = Field(default=None, description="A server in its place; see sample.")
    limit: int = Field(default=300, ge=1, description="Harmful prompts in a round, and as many harmless ones, at most.")
    attacks_a_prompt: int = Field(default=3, ge=1, description="Attacks of different kinds on each prompt.")
    max_tokens: int = Field(default=96, ge=1, description="Longest reply.")
    temperature: float = Field(default=0.7, ge=0)
    min_p: float = Field(default=0.1, ge=0, le=1, description="Rule out tokens below this share of the likeliest one.")
    validation_share: float = Field(default=0.1, ge=0, lt=1, description="Share of the pairs that are for validation.")
    items: int = Field(default=240, ge=1, description="Held-out items of each task, at most.")
    max_slots: int = Field(default=128, ge=1, description="Replies decoded at once; never changes one.")
    precision: Literal["auto", "float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _somebody_replies(self) -> RedteamConfig:
        if self.model is None and self.engine is None:
            raise ValueError("nobody is attacked: name a `model`, or an `engine` that serves one")
        if self.harmless and set(self.harmless) & set(self.harmful):
            raise ValueError(
                f"a kind is both harmful and harmless: {sorted(set(self.harmless) & set(self.harmful))[0]}"
            )
        return self


class ProbesConfig(StageConfig):
    """Write the items on which toxicity and bias are measured."""

    stage: Literal["probes"] = "probes"
    path: str | list[str] = Field(
        default="package:safety/probes.yaml", description="Files of probes; `package:` is what comes with the code."
    )
    samples: int = Field(default=5, ge=1, description="Draws of each continuation and reply judged for toxicity.")
