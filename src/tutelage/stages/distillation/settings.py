"""The typed configuration of `distill`. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tutelage.run.artifacts import CompletionsInput, ConversationsInput, ModelInput, TokenizerInput, TokensInput
from tutelage.training.settings import FineTuneConfig, ModelSettings, OptimizerSettings


class DistillConfig(FineTuneConfig):
    """Train a student to say what a teacher would say, and how likely it finds everything else."""

    stage: Literal["distill"] = "distill"
    teacher: ModelInput = Field(description="The model to learn from.")
    model: ModelInput | None = Field(
        default=None, description="The student, if it goes on from a model; else `shape` says what begins."
    )
    shape: ModelSettings | None = Field(default=None, description="Shape of a student with random weights.")
    tokenizer: TokenizerInput | None = Field(
        default=None, description="Tokenizer of a student with random weights; default: the teacher's."
    )
    conversations: ConversationsInput | list[ConversationsInput] | None = Field(
        default=None, description="What to learn from: assistants' turns."
    )
    completions: CompletionsInput | None = Field(
        default=None, description="What to learn from: replies, such as a teacher's (stage `sample`)."
    )
    tokens: TokensInput | None = Field(
        default=None, description="What to learn from: text. Beside replies it is mixed in against forgetting."
    )
    objective: Literal["forward", "reverse", "jsd"] = Field(
        default="forward", description="Which divergence from the teacher: see the table above."
    )
    beta: float = Field(default=0.5, gt=0, lt=1, description="The teacher's weight in the mixture of `jsd`.")
    temperature: float = Field(default=1.0, gt=0, description="Divides the logits of teacher and student alike.")
    next_token_share: float = Field(
        default=0.0, ge=0, le=1, description="Share of the plain next-token loss; with 1 the teacher is not asked."
    )
    top_k: int = Field(
        default=32, ge=1, description="Tokens of which the teacher's probability is kept; all others are one more."
    )
    on_policy: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the steps whose replies the student writes itself; the teacher judges them.",
    )
    max_tokens: int = Field(default=64, ge=1, description="Longest reply of the student (`on_policy`).")
    replies_a_step: int = Field(default=64, ge=1, description="Conversations and completions in one optimiser step.")
    rows_a_step: int = Field(default=8, ge=1, description="Rows of `tokens` in every step.")
    micro_batch_rows: int = Field(default=32, ge=1, description="Packed rows in one forward; never changes a result.")
    context: int | None = Field(
        default=None, ge=2, description="Tokens in a row. Default: the student's; of one that begins, the teacher's."
    )
    epochs: float = Field(
        default=1.0, gt=0, description="Passes over the replies, or over `tokens` alone, if num_steps is not given."
    )
    num_steps: int | None = Field(default=None, ge=1)
    validation_share: float = Field(default=0.02, ge=0, lt=1, description="Of the replies, to watch the loss.")
    validation_rows: int = Field(
        default=64, ge=1, description="Rows of `tokens` validated on the way, if there are no replies; all at the end."
    )
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=5e-4, decay_share=0.7)

    @model_validator(mode="after")
    def _a_student(self) -> DistillConfig:
        if self.model is None and self.shape is None:
            raise ValueError("no student: name a `model` to go on from, or give the `shape` of one that begins")
        if self.model is not None:
            for name, of_its_own in (("shape", self.shape), ("tokenizer", self.tokenizer)):
                if of_its_own is not None:
                    raise ValueError(f"`{name}` is for a student that begins, and `model` has its own: leave one out")
        elif self.lora is not None:
            raise ValueError("`lora` adapts a model that is there: name it as `model`, or leave `lora` out")
        return self

    @model_validator(mode="after")
    def _something_to_learn_from(self) -> DistillConfig:
        replies = self.conversations is not None or self.completions is not None
        if not replies and self.tokens is None:
            raise ValueError("nothing to learn from: name `conversations`, `completions` or `tokens`")
        if self.on_policy and not replies:
            raise ValueError("`on_policy` needs prompts: name `conversations` or `completions`")
        if self.on_policy and self.next_token_share == 1:
            raise ValueError("`on_policy` needs a teacher that is asked: lower `next_token_share`, of which 1 is all")
        return self

    @property
    def divergence_beta(self) -> float:
        """The objective on the scale of `objectives.distill.divergence`."""
        return {"forward": 0.0, "reverse": 1.0, "jsd": self.beta}[self.objective]
