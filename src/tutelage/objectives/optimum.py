"""The exact optimum that every KL-regularised method aims at, where all sequences can be written down.

An autoregressive policy over V tokens and length L is a list of L tables of logits of shapes (V,), (V, V), … (V,)*L:
table t holds, for every prefix of t tokens, the logits of the next. PPO, RLOO, GRPO and DPO share the optimum
π* = ref·exp(r/β)/Z, so a test can measure how near to it each of them comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class PolicyValue(NamedTuple):
    """What a policy is worth: E[r], KL(π ‖ ref) in nats, and J = E[r] − β·KL; scalars."""

    expected_reward: Tensor
    kl: Tensor
    objective: Tensor


class Optimum(NamedTuple):
    """The optimal policy: its value, β-free log Z, log π* of all sequences (V,)*L and of each next token."""

    value: PolicyValue
    log_z: Tensor
    logprobs: Tensor
    conditionals: list[Tensor]


def table_logprobs(tables: Sequence[Tensor]) -> Tensor:
    """Log-probs of all sequences, shape (V,)*L."""
    total = tables[0].new_zeros(())
    for table in tables:
        total = total.unsqueeze(-1) + table.log_softmax(-1)
    return total


def conditional_logprobs(logprobs: Tensor) -> list[Tensor]:
    """Log-probs of each next token given its prefix, from those of all sequences (V,)*L."""
    conditionals = []
    for length in range(logprobs.ndim):
        rest = tuple(range(length + 1, logprobs.ndim))
        prefix = logprobs.logsumexp(rest) if rest else logprobs
        conditionals.append(prefix.log_softmax(-1))
    return conditionals


def policy_value(logprobs: Tensor, ref_logprobs: Tensor, reward: Tensor, beta: float) -> PolicyValue:
    """Exact value of a policy from tables over all sequences; differentiable."""
    probs = logprobs.exp()
    expected_reward = (probs * reward).sum()
    kl = (probs * (logprobs - ref_logprobs)).sum()
    return PolicyValue(expected_reward, kl, expected_reward - beta * kl)


def kl_regularised_optimum(ref_logprobs: Tensor, reward: Tensor, beta: float) -> Optimum:
    """π* = ref·exp(r/β)/Z over all sequences; its objective is β·log Z, the most that any policy reaches."""
    unnormalised = ref_logprobs + reward / beta
    log_z = unnormalised.logsumexp(tuple(range(reward.ndim)))
    logprobs = unnormalised - log_z
    value = policy_value(logprobs, ref_logprobs, reward, beta)
    return Optimum(value, log_z, logprobs, conditional_logprobs(logprobs))


def most_likely(logprobs: Tensor) -> tuple[int, ...]:
    """The sequence of tokens with the highest probability."""
    return tuple(int(i) for i in torch.unravel_index(logprobs.argmax(), logprobs.shape))
