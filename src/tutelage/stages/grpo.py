"""Group relative policy optimisation (DeepSeekMath, arXiv 2402.03300) and its normalisations, without a critic.

A group of replies to every prompt is scored; the advantage of a reply is its score against those of its group. The KL
to the reference stands in the loss (k3), as published, or in the score: docs/methods/grpo-rloo.md says what differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from torch import nn

from tutelage.objectives.advantages import grpo_advantages, penalised_scores
from tutelage.objectives.policy import Aggregation, Clip, policy_loss
from tutelage.objectives.types import LossOutput
from tutelage.run.stage import Inputs, StageRun
from tutelage.stages.alignment.reinforce import Method, Step, reinforce
from tutelage.stages.alignment.rollouts import (
    Estimate,
    Judged,
    RolloutBatch,
    by_reply,
    fresh_metrics,
    group_estimate,
    token_outputs,
)
from tutelage.stages.configs import GRPOConfig

Scale = Literal["group", "batch", "none"]


@dataclass(frozen=True)
class Normalisation:
    """What the loss is divided by, whose deviation divides the advantages, and how far the ratio may go."""

    how: Aggregation
    scale: Scale = "group"
    low: float = 0.2
    high: float = 0.2
    per_sequence: bool = False


NORMALISATIONS: Mapping[str, Normalisation] = {
    "sequence_mean": Normalisation("row_mean"),  # as published
    "token_mean": Normalisation("token_mean"),
    "dr": Normalisation("constant", "none"),  # Dr. GRPO 2503.20783: no length and no difficulty bias
    "dapo": Normalisation("token_mean", high=0.28),  # clip-higher, 2503.14476
    "gspo": Normalisation("row_mean", low=3e-4, high=4e-4, per_sequence=True),  # 2507.18071, section 5.1
}


def run(config: GRPOConfig, inputs: Inputs, run: StageRun) -> None:
    """Train a policy against rewards relative to its other replies to the same prompt."""
    reinforce(config, inputs, run, method(config))


def method(config: GRPOConfig) -> Method:
    """Advantages and loss as the configuration has them."""
    scale = config.scale or NORMALISATIONS[config.normalisation].scale
    return Method("grpo", partial(estimate, scale=scale, kl_in_score=config.kl_in == "score"), _step(config),
                  resample_attempts=config.resample_attempts, scores_alone=config.kl_in == "loss")  # fmt: skip


def estimate(judged: Judged, scale: Scale, *, kl_in_score: bool = False) -> Estimate:
    """The score, less the KL of the reply if asked, against the mean of its group, divided as `scale` says."""
    scores = judged.scores_B
    if kl_in_score:
        scores = penalised_scores(scores, judged.kl_BT, judged.mask_BT, judged.kl_coef)
    return group_estimate(grpo_advantages(scores, judged.groups_B, scale=scale), judged)


def _step(config: GRPOConfig) -> Step:
    chosen = NORMALISATIONS[config.normalisation]
    low = config.clip_range or chosen.low
    high = config.clip_range_high or config.clip_range or chosen.high
    clip = Clip(low, high, max_log_ratio=20.0, per_sequence=chosen.per_sequence)

    def step(model: nn.Module, batch: RolloutBatch) -> LossOutput:
        logprobs, entropies, _ = token_outputs(model, batch.rows, config.temperature)
        replies = by_reply(batch, logprobs)
        kl_coef = batch.metrics["objective/kl_coef"] if config.kl_in == "loss" else 0.0
        output = policy_loss(
            replies.logprobs,
            replies.old_logprobs,
            replies.advantages[:, :1] if chosen.per_sequence else replies.advantages,
            replies.mask,
            clip=clip,
            how=chosen.how,
            length=config.max_tokens,
            ref_logprobs_BT=replies.ref_logprobs if kl_coef else None,
            kl_coef=kl_coef,
        )
        return replace(output, metrics={**output.metrics, **fresh_metrics(batch, logprobs, entropies)})

    return step
