"""Tabular policies trained by the objectives, put together as the stages put them together."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tutelage.objectives.advantages import gae, grpo_advantages, penalised_scores, rloo_advantages, token_rewards
from tutelage.objectives.kl import k1
from tutelage.objectives.masked import masked_whiten
from tutelage.objectives.policy import policy_loss, ppo_loss, value_loss
from tutelage.objectives.preference import Pairs, PreferenceSettings, preference_loss
from tutelage.objectives.types import LossOutput

from .world import Draw, TabularPolicy, World, evenly


class Rollout(NamedTuple):
    """N drawn sequences: their numbers, scores (N,), and log-probs under policy and reference (N, T)."""

    numbers_N: Tensor
    scores_N: Tensor
    logprobs_NT: Tensor
    ref_logprobs_NT: Tensor
    values_NT: Tensor

    @property
    def mask(self) -> Tensor:
        return torch.ones_like(self.logprobs_NT, dtype=torch.bool)

    def of(self, table_ST: Tensor) -> Tensor:
        """What a table over all sequences has for the drawn ones, (N, T)."""
        return table_ST.index_select(0, self.numbers_N)


Loss = Callable[[TabularPolicy], LossOutput]
Method = Callable[[Rollout, float], Loss]


def ppo(rollout: Rollout, kl_coef: float) -> Loss:
    """KL inside the reward of each token, GAE, whitening, clipped policy and value loss: as in stages/ppo.py."""
    mask = rollout.mask
    rewards = token_rewards(rollout.scores_N, k1(rollout.logprobs_NT, rollout.ref_logprobs_NT), mask, kl_coef)
    advantages, returns = gae(rewards, rollout.values_NT, mask)
    whitened = masked_whiten(advantages, mask)

    def loss(policy: TabularPolicy) -> LossOutput:
        logprobs, values = rollout.of(policy.token_logprobs()), rollout.of(policy.token_values())
        actor = policy_loss(logprobs, rollout.logprobs_NT, whitened, mask)
        critic = value_loss(values, rollout.values_NT, returns, mask)
        return ppo_loss(actor, critic, logprobs, value_coef=0.5)

    return loss


def group_method(advantages_of: Callable[[Tensor, Tensor], Tensor]) -> Method:
    """KL inside the score of a reply, a baseline of its group (all replies: there is one prompt), clipped loss."""

    def method(rollout: Rollout, kl_coef: float) -> Loss:
        mask = rollout.mask
        kl = k1(rollout.logprobs_NT, rollout.ref_logprobs_NT)
        scores = penalised_scores(rollout.scores_N, kl, mask, kl_coef)
        advantages = advantages_of(scores, torch.zeros_like(rollout.numbers_N)).unsqueeze(1)

        def loss(policy: TabularPolicy) -> LossOutput:
            return policy_loss(rollout.of(policy.token_logprobs()), rollout.logprobs_NT, advantages, mask)

        return loss

    return method


rloo = group_method(rloo_advantages)
grpo = group_method(lambda scores, groups: grpo_advantages(scores, groups, scale="none"))


def grpo_kl_in_loss(rollout: Rollout, kl_coef: float) -> Loss:
    """GRPO as published: the KL is a k3 term of the loss, not a part of the score."""
    groups = torch.zeros_like(rollout.numbers_N)
    advantages = grpo_advantages(rollout.scores_N, groups, scale="none").unsqueeze(1)

    def loss(policy: TabularPolicy) -> LossOutput:
        logprobs = rollout.of(policy.token_logprobs())
        return policy_loss(logprobs, rollout.logprobs_NT, advantages, rollout.mask,
                           ref_logprobs_BT=rollout.ref_logprobs_NT, kl_coef=kl_coef)  # fmt: skip

    return loss


def roll_out(world: World, policy: TabularPolicy, numbers_N: Tensor) -> Rollout:
    with torch.no_grad():
        ref_ST = TabularPolicy(world).token_logprobs()
        logprobs_ST, values_ST = policy.token_logprobs(), policy.token_values()
    return Rollout(
        numbers_N, world.reward.flatten()[numbers_N], logprobs_ST[numbers_N], ref_ST[numbers_N], values_ST[numbers_N]
    )


def train_online(
    world: World, method: Method, kl_coef: float, *, num_batches: int = 100, rollouts: int = 1024, draw: Draw = evenly,
    learning_rate: float = 0.15, num_epochs: int = 2, seed: int = 0,
) -> TabularPolicy:  # fmt: skip
    """Rollout batches, each of them passed over `num_epochs` times; the learning rate falls to 0."""
    policy, generator = TabularPolicy(world), torch.Generator().manual_seed(seed)
    optimizer, scheduler = _optimizer(policy, learning_rate, num_batches * num_epochs)
    for _ in range(num_batches):
        probs_S = policy.token_logprobs().detach().sum(1).exp()
        loss = method(roll_out(world, policy, draw(probs_S, rollouts, generator)), kl_coef)
        for _ in range(num_epochs):
            _update(loss(policy), optimizer, scheduler)
    return policy


def _optimizer(policy: TabularPolicy, learning_rate: float, num_steps: int):
    optimizer = torch.optim.Adam(policy.parameters(), learning_rate, betas=(0.9, 0.95))
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)


def _update(output: LossOutput, optimizer, scheduler) -> None:
    optimizer.zero_grad()
    output.mean().backward()
    optimizer.step()
    scheduler.step()


def train_on_pairs(
    world: World, loss: str, beta: float, *, num_steps: int = 400, pairs_a_step: int = 1024, learning_rate: float = 0.5,
    seed: int = 0,
) -> TabularPolicy:  # fmt: skip
    """Pairs of replies drawn uniformly, in both orders, each order weighed by its Bradley–Terry probability."""
    policy, generator = TabularPolicy(world), torch.Generator().manual_seed(seed)
    optimizer, scheduler = _optimizer(policy, learning_rate, num_steps)
    ref_S = policy.token_logprobs().detach().sum(1)
    reward_S = world.reward.flatten()
    tokens = torch.full((), world.reward.ndim)
    for _ in range(num_steps):
        a, b = torch.randint(len(ref_S), (2, pairs_a_step), generator=generator)
        prob = torch.sigmoid(reward_S[a] - reward_S[b])
        chosen, rejected, weights = torch.cat([a, b]), torch.cat([b, a]), torch.cat([prob, 1 - prob])
        logprobs_S = policy.token_logprobs().sum(1)
        pairs = Pairs(
            logprobs_S.index_select(0, chosen),
            logprobs_S.index_select(0, rejected),
            tokens,
            tokens,
            ref_S[chosen],
            ref_S[rejected],
        )
        _update(preference_loss(loss, pairs, PreferenceSettings(beta), weights_B=weights), optimizer, scheduler)
    return policy
