"""What the coefficient of the KL does to trained policies: the more it costs, the nearer they stay."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tutelage.objectives.types import divide

from .training import grpo, ppo, rloo, roll_out, train_on_pairs, train_online
from .world import TabularPolicy, at_random, golden_cases, world_of

WORLD = world_of(golden_cases()[0])
COEFFICIENTS = [0.1, 0.3, 1.0, 3.0]
sampled = partial(train_online, num_batches=40, rollouts=256, draw=at_random)
METHODS = {
    "ppo": partial(sampled, WORLD, ppo),
    "grpo": partial(sampled, WORLD, grpo),
    "rloo": partial(sampled, WORLD, rloo),
    "dpo": partial(train_on_pairs, WORLD, "sigmoid", num_steps=80, pairs_a_step=512),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", METHODS)
def test_kl_and_reward_fall_as_the_coefficient_rises(name: str, seed: int) -> None:
    values = [WORLD.value(METHODS[name](coefficient, seed=seed), coefficient) for coefficient in COEFFICIENTS]
    kls = [value.kl.item() for value in values]
    assert kls == sorted(kls, reverse=True)
    # With hardly any leash a few thousand samples may settle on the second-best reply: its reward says little.
    rewards = [value.expected_reward.item() for value in values[1:]]
    assert rewards == sorted(rewards, reverse=True)


def test_without_a_leash_the_entropy_collapses() -> None:
    def entropy(kl_coef: float) -> float:
        logprobs = sampled(WORLD, ppo, kl_coef, num_batches=80).token_logprobs().detach().sum(1)
        return -(logprobs.exp() * logprobs).sum().item()

    assert entropy(0.0) < 0.2 < 1.0 < entropy(1.0)


def test_the_first_pass_over_a_fresh_batch_is_on_policy_and_the_next_is_not() -> None:
    policy = TabularPolicy(WORLD)
    probs_S = policy.token_logprobs().detach().sum(1).exp()
    numbers = at_random(probs_S, 256, torch.Generator().manual_seed(0))
    loss = ppo(roll_out(WORLD, policy, numbers), 0.1)
    first = loss(policy)
    first.mean().backward()
    torch.optim.SGD(policy.parameters(), 1.0).step()
    names = ("val/ratio", "policy/approxkl", "policy/clipfrac")
    before, after = ([divide(*output.metrics[name]).item() for name in names] for output in (first, loss(policy)))
    assert before == [1.0, 0.0, 0.0]
    assert after[1] > 0
