"""Reinforcement learning from human feedback by PPO (arXiv 1707.06347, 2203.02155).

Prompts → replies → scores and KL → advantages → clipped updates of the policy and of its critic. One rollout batch
gives `num_epochs` × `num_minibatches` optimiser steps; the source computes the next batch only when it is asked to.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from tutelage.data.completions import PackedCompletions
from tutelage.model.heads import PolicyWithValue
from tutelage.objectives.advantages import gae, token_rewards
from tutelage.objectives.masked import masked_whiten
from tutelage.objectives.policy import Clip, explained_variance, policy_loss, ppo_loss, value_loss
from tutelage.objectives.types import LossOutput
from tutelage.run.stage import Inputs, StageRun
from tutelage.stages.alignment.reinforce import Method, Step, reinforce
from tutelage.stages.alignment.rollouts import Estimate, Judged, RolloutBatch, token_outputs
from tutelage.stages.configs import PPOConfig


def run(config: PPOConfig, inputs: Inputs, run: StageRun) -> None:
    """Train a policy and its critic against rewards, leashed by KL to the model it starts from."""
    reinforce(config, inputs, run, method(config, run.seed))


def method(config: PPOConfig, seed: int) -> Method:
    """Advantages, loss and critic as the configuration has them; the seed is the critic's."""
    return Method("ppo", partial(estimate, config=config), _step(config),
                  partial(PolicyWithValue, seed=seed), partial(start_critic, gamma=config.gamma),
                  config.critic_warmup_batches)  # fmt: skip


def estimate(judged: Judged, config: PPOConfig) -> Estimate:
    """GAE over token rewards, which have the KL in them; whitened over the batch, returns before that."""
    values, mask = judged.values_BT, judged.mask_BT
    rewards = token_rewards(judged.scores_B, judged.kl_BT, mask, judged.kl_coef)
    advantages, returns = gae(rewards, values, mask, gamma=config.gamma, lam=config.gae_lambda)
    explained = float(explained_variance(values, returns, mask))
    return Estimate(masked_whiten(advantages, mask), returns, {"val/explained_variance": explained})


def start_critic(model: nn.Module, packed: PackedCompletions, judged: Judged, gamma: float) -> None:
    """Fit the critic's head to what the first rollouts returned: from zero it would take many batches to get there."""
    assert isinstance(model, PolicyWithValue), "ppo trains a policy with a critic"
    rewards = token_rewards(judged.scores_B, judged.kl_BT, judged.mask_BT, judged.kl_coef)
    returns = gae(rewards, torch.zeros_like(rewards), judged.mask_BT, gamma=gamma, lam=1.0).returns
    rows = packed.rows
    mask = rows.targets_BT >= 0
    model.fit_values(rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT,
                     packed.lay(returns[judged.mask_BT], mask), mask)  # fmt: skip


def _step(config: PPOConfig) -> Step:
    clip = Clip(config.clip_range, config.clip_range, max_log_ratio=20.0)

    def step(model: nn.Module, batch: RolloutBatch) -> LossOutput:
        logprobs, _, values = token_outputs(model, batch.rows, config.temperature, value_only=batch.value_only)
        mask = batch.rows.targets_BT >= 0
        policy = policy_loss(logprobs, batch.old_logprobs, batch.advantages, mask, clip=clip)
        value = value_loss(values, batch.old_values, batch.returns, mask, clip_range=config.value_clip_range)
        return ppo_loss(policy, value, logprobs, value_coef=config.value_coef)

    return step
