"""The typed configuration of the stages that make data. Imports nothing heavy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tutelage.run.artifacts import ConversationsInput, DocumentsInput, ModelInput, PromptsInput, TasksInput
from tutelage.run.config import StageConfig
from tutelage.stages.replying.settings import ServerSettings

Kind = Literal["questions-answers", "reasoning", "conversations", "rephrase", "self-instruct"]
StyleName = Literal["child", "plain", "formal", "brief", "lively"]
Share = Annotated[float, Field(ge=0, le=1)]
# kind → what its rows are made from; one of these inputs has to be given
MADE_FROM: dict[str, tuple[str, ...]] = {
    "questions-answers": ("documents", "topics"),
    "reasoning": ("problems",),
    "conversations": ("documents", "topics"),
    "rephrase": ("documents",),
    "self-instruct": ("seeds",),
}


class LessonsConfig(StageConfig):
    """Write examples that teach a small model to make data, problems with answers, and held-out items."""

    stage: Literal["lessons"] = "lessons"
    facts: int | None = Field(
        default=None, ge=44, description="How many facts, as in `atlas`; with its seed they are the same ones."
    )
    reading: int = Field(default=1500, ge=0, description="Passages with a question, and with its answer.")
    rephrasing: int = Field(default=800, ge=0, description="Sentences with a rewriting in a style.")
    turns: int = Field(default=0, ge=0, description="Passages with what a user says next.")
    sums: int = Field(default=0, ge=0, description="Sums worked out step by step.")
    steps: int = Field(default=2, ge=1, le=6, description="Steps of a sum.")
    largest: int = Field(default=10, ge=1, description="Largest number that a step adds or takes away.")
    problems: int = Field(default=0, ge=0, description="Further sums with their answers only.")
    items: int = Field(default=200, ge=1, description="Held-out items of each kind.")
    passage_words: int = Field(default=40, ge=5, description="Longest passage.")

    @model_validator(mode="after")
    def _enough_sums(self) -> LessonsConfig:
        wanted = self.sums + self.problems + (self.items if self.sums else 0)
        if wanted > self.largest * (2 * self.largest) ** self.steps // 2:  # about half of them never go below zero
            raise ValueError(f"there are not {wanted} different sums of {self.steps} steps by up to {self.largest}")
        return self


class SynthesizeConfig(StageConfig):
    """Let a model make data: questions and answers, worked problems, conversations, rewritings, instructions."""

    stage: Literal["synthesize"] = "synthesize"
    kind: Kind = Field(description="What is made: see the table above.")
    num_rows: int = Field(default=200, ge=1, description="Rows wanted.")
    model: ModelInput | None = Field(
        default=None, description="Makes the rows; beside an `engine`, the one that it serves, for the record."
    )
    engine: ServerSettings | None = Field(
        default=None,
        description="A server instead, for example `{url: http://127.0.0.1:8000/v1, model: NAME}`; see sample.",
    )
    answerer: ModelInput | None = Field(
        default=None, description="Another, stronger model that answers, replies and agrees or not."
    )
    answer_engine: ServerSettings | None = Field(default=None, description="A server in place of the `answerer`.")
    documents: DocumentsInput | None = Field(default=None, description="What questions, conversations are about.")
    topics: list[Annotated[str, Field(min_length=1, pattern=r"\S")]] = Field(
        default=[], description="What they are about instead, by name."
    )
    problems: PromptsInput | None = Field(default=None, description="What is to be worked out (`reasoning`).")
    seeds: ConversationsInput | None = Field(default=None, description="Instructions to begin with (`self-instruct`).")
    examples: ConversationsInput | None = Field(
        default=None, description="Examples shown, tagged with their step, in place of those that come with the code."
    )
    tasks: TasksInput | None = Field(default=None, description="Evaluation items that must not be in a row.")
    num_examples: int = Field(
        default=3, ge=0, description="Examples shown before each request; fewer where they do not fit."
    )
    samples: int = Field(default=1, ge=1, description="Rows drawn from each passage, topic or problem.")
    most_a_parent: int | None = Field(
        default=None, ge=1, description="Rows kept of one passage, topic or problem; all that will do if not given."
    )
    rounds: int = Field(default=4, ge=1, description="Rounds of drawing; each asks for what is still missing.")
    drafts_a_round: int | None = Field(
        default=None,
        ge=1,
        description="Drafts of one round at most; later ones are shown what was kept of earlier ones.",
    )
    passage_words: int = Field(default=120, ge=5, description="Longest passage: whole sentences of one document.")
    language: str | None = Field(default=None, description="Documents of this language only.")
    agreement: Literal["off", "passage", "alone"] = Field(
        default="off",
        description="Whether a second answer must agree: to passage and question, or to the question alone.",
    )
    verify: list[Literal["arithmetic", "sources", "python", "answer"]] = Field(
        default=["arithmetic", "answer"], min_length=1, description="What a worked problem must pass (`reasoning`)."
    )
    instruction: str = Field(
        default="\n\nThink step by step, and end with: The answer is …",
        description="Put after each problem; it is not part of the row (`reasoning`).",
    )
    styles: list[StyleName] = Field(
        default=["child", "formal"], min_length=1, description="Styles of `rephrase`, drawn evenly."
    )
    turns: int = Field(default=3, ge=1, description="User's turns in a conversation.")
    least_support: Share = Field(default=0.8, description="Share of an answer's words that the passage must have.")
    least_kept: Share = Field(default=0.5, description="Share of a text's words that its rewriting must keep …")
    least_own: Share = Field(default=0.25, description="… and share of the rewriting's that must be the text's.")
    most_alike: Share = Field(
        default=0.7, description="Highest ROUGE-L of a new instruction with any before it (`self-instruct`)."
    )
    near_duplicate_jaccard: float = Field(
        default=0.8, gt=0, le=1, description="Share of common word 5-grams from which a row repeats another."
    )
    most_harm: float = Field(default=0.85, ge=0, description="Highest harm score, as in curate.")
    measured_rows: int = Field(
        default=200, ge=0, description="Rows of which is measured whether their evidence alone gives the answer."
    )
    max_tokens: int = Field(default=64, ge=1, description="Longest text written in one step.")
    temperature: float = Field(default=1.0, ge=0)
    answer_temperature: float = Field(default=0.0, ge=0, description="Of answers.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Draw from the likeliest tokens that sum to this.")
    min_p: float = Field(default=0.0, ge=0, le=1, description="Rule out tokens below this share of the likeliest one.")
    max_slots: int = Field(default=128, ge=1, description="Texts decoded at once; never changes a text.")
    precision: Literal["auto", "float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _somebody_writes(self) -> SynthesizeConfig:
        if self.model is None and self.engine is None:
            raise ValueError("nobody writes: name a `model`, or an `engine` that serves one")
        return self

    @model_validator(mode="after")
    def _of_something(self) -> SynthesizeConfig:
        given = {name for names in MADE_FROM.values() for name in names if getattr(self, name)}
        wanted = MADE_FROM[self.kind]
        if len(given & set(wanted)) != 1:
            raise ValueError(f"`{self.kind}` is made from one of: {', '.join(wanted)}; given: {_listed(given)}")
        if given - set(wanted):
            raise ValueError(f"`{self.kind}` does not use {_listed(given - set(wanted))}: leave it out")
        if self.agreement != "off" and self.kind != "questions-answers":
            raise ValueError("`agreement` is about answers: it goes with `questions-answers` only")
        if self.agreement == "passage" and self.topics:
            raise ValueError("a topic has no passage to agree from: write `agreement: alone`")
        return self


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
