"""REINFORCE leave-one-out (Ahmadian et al., arXiv 2402.14740; Kool et al. 2019): no critic, and no group deviation.

Several replies to every prompt are scored, less the KL of the whole reply; the advantage of a reply is that score less
the mean of the others'. A reply is one action: its log-prob is the sum over its tokens.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from tutelage.objectives.advantages import normalise, penalised_scores, rloo_advantages
from tutelage.objectives.policy import Clip, policy_loss
from tutelage.objectives.types import LossOutput
from tutelage.run.stage import Inputs, StageRun
from tutelage.stages.alignment.reinforce import Method, Step, reinforce
from tutelage.stages.alignment.rollouts import Estimate, Judged, RolloutBatch, by_reply, group_estimate, token_outputs
from tutelage.stages.configs import RLOOConfig


def run(config: RLOOConfig, inputs: Inputs, run: StageRun) -> None:
    """Train a policy by REINFORCE with the other replies' mean reward as the baseline."""
    reinforce(config, inputs, run, Method("rloo", partial(estimate, whiten=config.normalise), _step(config)))


def estimate(judged: Judged, whiten: bool) -> Estimate:
    """Score less KL, against the mean of the group's other replies, on every token."""
    scores = penalised_scores(judged.scores_B, judged.kl_BT, judged.mask_BT, judged.kl_coef)
    advantages = rloo_advantages(scores, judged.groups_B)
    return group_estimate(normalise(advantages, scores) if whiten else advantages, judged)


def _step(config: RLOOConfig) -> Step:
    clip = Clip(config.clip_range, config.clip_range, max_log_ratio=20.0)

    def step(model: nn.Module, batch: RolloutBatch) -> LossOutput:
        logprobs, _, _ = token_outputs(model, batch.rows, config.temperature)
        replies = by_reply(batch, logprobs)
        return policy_loss(
            replies.logprobs, replies.old_logprobs, replies.advantages, replies.mask, clip=clip, how="sequence_sum"
        )

    return step
