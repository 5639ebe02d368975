"""The typed configuration of the stages that align a model. Imports nothing heavy."""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import Literal

from pydantic import Field, field_validator, model_validator

from tutelage.feedback.rules import RULES
from tutelage.run.artifacts import ModelInput, PreferencesInput, PromptsInput, RewardModelInput, TokensInput
from tutelage.stages.replying.settings import ToolUsingConfig
from tutelage.training.settings import FineTuneConfig, LoopSettings, OptimizerSettings

NUM_SAMPLES = Field(
    default=4, ge=0, description="Prompts whose replies are kept at the start, at every look (`loop.evaluate_every`) "
    "and at the end, in `samples.jsonl`.",
)  # fmt: skip
REFERENCE = Field(default=None, description="Model that the policy is compared with; default: `model` itself.")


class PairConfig(FineTuneConfig):
    """What stages that learn from preference pairs can be told."""

    model: ModelInput = Field(description="Policy to start from, and reference.")
    preferences: PreferencesInput | list[PreferencesInput] = Field(
        description="Pairs to learn from; of several stages, all together."
    )
    pairs_a_step: int = Field(default=32, ge=1)
    micro_batch_pairs: int = Field(default=32, ge=1, description="Pairs in one forward; never changes a result.")
    epochs: float = Field(default=1.0, gt=0)
    num_steps: int | None = Field(default=None, ge=1)
    num_samples: int = NUM_SAMPLES
    loop: LoopSettings = LoopSettings(evaluate_every=100)
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=1e-4, warmup_share=0.1)


class DPOConfig(PairConfig):
    """Optimise a model directly on preference pairs; it is its own reference."""

    stage: Literal["dpo"] = "dpo"
    reference: ModelInput | None = REFERENCE
    loss: Literal["sigmoid", "cdpo", "sigmoid_norm", "robust", "hinge", "ipo", "ipo_sum", "simpo", "orpo"] = "sigmoid"
    beta: float = Field(default=0.1, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5, description="Share of flipped labels (cDPO, robust).")
    gamma: float = Field(default=0.5, ge=0, description="Target margin of SimPO.")
    sft_coef: float = Field(default=0.0, ge=0, description="Weight of the chosen replies' own likelihood.")


class ORPOConfig(PairConfig):
    """Fine-tune on the chosen replies and push the rejected ones away in one loss, without a reference."""

    stage: Literal["orpo"] = "orpo"
    model: ModelInput = Field(description="Model to start from.")
    beta: float = Field(default=0.1, gt=0, description="Weight of the odds-ratio term (the paper's λ).")


class KTOConfig(FineTuneConfig):
    """Optimise a model on single replies that are labelled desirable or not; it is its own reference."""

    stage: Literal["kto"] = "kto"
    model: ModelInput = Field(description="Policy to start from, and reference.")
    reference: ModelInput | None = REFERENCE
    preferences: PreferencesInput = Field(description="Labelled replies, or pairs, whose two sides are used as such.")
    beta: float = Field(default=0.1, gt=0)
    desirable_weight: float = Field(default=1.0, ge=0, description="Weight of desirable replies (λ_D).")
    undesirable_weight: float = Field(default=1.0, ge=0, description="Weight of undesirable replies (λ_U).")
    replies_a_step: int = Field(default=64, ge=2, description="Labelled replies in one optimiser step.")
    micro_batch_replies: int = Field(default=64, ge=1, description="Replies in one forward; never changes a result.")
    epochs: float = Field(default=1.0, gt=0)
    num_steps: int | None = Field(default=None, ge=1)
    num_samples: int = NUM_SAMPLES
    loop: LoopSettings = LoopSettings(evaluate_every=100)
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=1e-4, warmup_share=0.1)


class RolloutConfig(FineTuneConfig, ToolUsingConfig):
    """What stages that learn from rollouts and rewards can be told."""

    model: ModelInput = Field(description="Policy to start from, and reference.")
    reference: ModelInput | None = REFERENCE
    reward_model: RewardModelInput | dict[str, RewardModelInput] | None = Field(
        default=None, description="What scores the replies; several reward models each with a label."
    )
    rewards: dict[str, float] = Field(
        default={},
        description="Weights of more rewards by name (`answer`, `finished`, `format`, `length`, `rubric`), and of "
        "reward models by label (a single one is `model`), which weigh 1 if not named.",
    )
    reward_by_text: bool = Field(
        default=False, description="Let reward models of another tokenizer read the replies' text."
    )
    format_pattern: str | None = Field(
        default=None, description="Regular expression that a whole reply must match for the reward `format`."
    )
    length_limit: int | None = Field(
        default=None, ge=1, description="Tokens from which `length` falls to −1; default: half of `max_tokens`."
    )
    prompts: PromptsInput = Field(description="What is replied to.")
    num_rollout_batches: int = Field(default=40, ge=1)
    num_epochs: int = Field(default=1, ge=1, description="Passes over each rollout batch.")
    num_minibatches: int = Field(default=1, ge=1)
    max_tokens: int = Field(default=64, ge=1, description="Longest reply; with tools: longest turn of it.")
    temperature: float = Field(default=1.0, gt=0, description="Of rollouts, reference and update alike.")
    kl_coef: float = Field(default=0.05, ge=0, description="Weight of the KL to the reference in the reward.")
    kl_target: float | None = Field(default=None, gt=0, description="Nats a reply; adapts kl_coef if given.")
    missing_end_penalty: float = Field(default=1.0, ge=0, description="Taken from the score of a reply cut short.")
    replay: TokensInput | None = Field(
        default=None, description="Pretraining tokens mixed in against forgetting (PPO-ptx)."
    )
    replay_rows: int = Field(default=8, ge=1, description="Rows of `replay` in every step.")
    ptx_coef: float = Field(default=1.0, ge=0, description="Weight of the loss on `replay`, a mean over its tokens.")
    num_samples: int = NUM_SAMPLES
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=1e-4, warmup_share=0.05, decay_share=0.3)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Prompts of a rollout batch, and replies to each."""

    @property
    def num_rollouts(self) -> int:
        """Replies between two rounds of updates."""
        return self.shape[0] * self.shape[1]

    @property
    def reward_models(self) -> dict[str, str]:
        """Label → reference of every reward model."""
        if self.reward_model is None:
            return {}
        return {"model": self.reward_model} if isinstance(self.reward_model, str) else self.reward_model

    @property
    def reward_weights(self) -> dict[str, float]:
        """Name → weight of every reward, models first."""
        return {**dict.fromkeys(self.reward_models, 1.0), **self.rewards}

    @field_validator("format_pattern")
    @classmethod
    def _is_a_pattern(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _rewards_exist(self) -> RolloutConfig:
        clash = sorted(self.reward_models.keys() & RULES)
        if clash:
            raise ValueError(f"reward_model: {clash[0]!r} is the name of a rule; give the model another label")
        known = [*self.reward_models, *RULES]
        unknown = sorted(self.rewards.keys() - set(known))
        if unknown:
            raise ValueError(f"rewards: there is no reward {unknown[0]!r}; these there are: {', '.join(known)}")
        if not self.reward_weights:
            raise ValueError("nothing rewards the replies: name a `reward_model`, or `rewards` such as {answer: 1}")
        if "format" in self.rewards and self.format_pattern is None:
            raise ValueError("rewards: `format` needs a `format_pattern`")
        if self.length_limit is not None and self.length_limit >= self.max_tokens:
            raise ValueError(f"length_limit: {self.length_limit} must be less than max_tokens = {self.max_tokens}")
        return self


class PPOConfig(RolloutConfig):
    """Optimise a policy against rewards with a critic, leashed by KL to the model it starts from."""

    stage: Literal["ppo"] = "ppo"
    rollouts_a_batch: int = Field(default=128, ge=2, description="Replies between two rounds of updates.")
    num_epochs: int = Field(default=2, ge=1, description="Passes over each rollout batch.")
    num_minibatches: int = Field(default=2, ge=1)
    critic_warmup_batches: int = Field(
        default=0, ge=0, description="The first so many rollout batches train the critic alone."
    )
    gamma: float = Field(default=1.0, gt=0, le=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    clip_range: float = Field(default=0.2, gt=0)
    value_clip_range: float = Field(default=0.2, gt=0)
    value_coef: float = Field(default=0.1, ge=0)

    @property
    def shape(self) -> tuple[int, int]:
        """One reply to each prompt."""
        return self.rollouts_a_batch, 1


class GroupConfig(RolloutConfig):
    """What stages that compare several replies to a prompt can be told."""

    prompts_a_batch: int = Field(default=16, ge=1, description="Prompts between two rounds of updates.")
    num_replies: int = Field(default=8, ge=2, description="Replies to each prompt: the group.")

    @property
    def shape(self) -> tuple[int, int]:
        """A group of replies to each prompt."""
        return self.prompts_a_batch, self.num_replies


class GRPOConfig(GroupConfig):
    """Optimise a policy against rewards relative to its other replies to the same prompt, with KL in the loss."""

    stage: Literal["grpo"] = "grpo"
    normalisation: Literal["sequence_mean", "token_mean", "dr", "dapo", "gspo"] = Field(
        default="token_mean", description="What the loss is divided by, and which ratio: see the table above."
    )
    scale: Literal["group", "batch", "none"] | None = Field(
        default=None, description="Whose standard deviation divides the advantages; default: by `normalisation`."
    )
    kl_coef: float = Field(default=0.04, ge=0, description="Weight of the KL to the reference.")
    kl_in: Literal["loss", "score"] = Field(
        default="loss",
        description="`loss` as published (k3); `score` for the optimum of reward less KL, as PPO and RLOO have it.",
    )
    clip_range: float | None = Field(
        default=None, gt=0, description="How far the ratio π/π_old may fall; default: by `normalisation`."
    )
    clip_range_high: float | None = Field(default=None, gt=0, description="How far it may rise; default: the same.")
    resample_attempts: int = Field(
        default=0,
        ge=0,
        description="How often groups of one score are drawn again, with the next prompts; what is left stays.",
    )


class RLOOConfig(GroupConfig):
    """Optimise a policy by REINFORCE, with the mean reward of its other replies as the baseline."""

    stage: Literal["rloo"] = "rloo"
    clip_range: float = Field(default=0.2, gt=0)
    normalise: bool = Field(default=False, description="Bring the advantages of a batch to mean 0 and deviation 1.")
