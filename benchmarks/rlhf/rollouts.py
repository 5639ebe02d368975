"""Our side of the rows that learn from their own replies, put together as a stage puts it together."""

from __future__ import annotations

from unittest.mock import patch

import torch
from llama import Work, prompt_ids, word_tokenizer
from torch import Tensor
from trainers import Ours

from tutelage.generation.rollout import Rollouts
from tutelage.model.transformer import CausalLM
from tutelage.stages.alignment import drawing
from tutelage.stages.alignment.drawing import Drawer
from tutelage.stages.alignment.reinforce import Method, frozen_logprobs
from tutelage.stages.alignment.rewards import Judged, Prompt, Rewards, RewardSource
from tutelage.stages.alignment.rollouts import RolloutBatch, RolloutSource
from tutelage.stages.alignment.settings import RolloutConfig


def even_share(ids: list[int]) -> float:
    """A reward that replies differ in and that costs nothing: the share of even tokens."""
    return sum(token % 2 == 0 for token in ids) / len(ids)


def even_rewards(judged: Judged) -> Tensor:
    return torch.tensor([even_share(one.ids[one.num_prompt :]) for one in judged.completions])


def our_side(
    work: Work, method: Method, policy: CausalLM, ref: CausalLM, config: RolloutConfig, reward: RewardSource
) -> Ours[RolloutBatch]:
    """A turn is a batch of rollouts and its optimiser steps."""
    tokenizer = word_tokenizer(work)
    repeats = work.num_replies // config.shape[1]
    prompts = [Prompt(ids, {}) for ids in prompt_ids(work) for _ in range(repeats)]
    model = method.with_critic(policy)
    rewards = Rewards({"reward": reward}, {"reward": 1.0}, tokenizer)
    drawer = Drawer(policy, rewards, tokenizer, prompts, config, seed=0)
    logprobs = frozen_logprobs(ref.eval().requires_grad_(False), config.temperature)
    source = RolloutSource(model, logprobs, drawer, method.estimate, start_critic=method.start_critic,
                           scores_alone=method.scores_alone)  # fmt: skip
    return Ours(model, source, method.step, config.optimizer, source.steps_a_batch)


def learn_from(replies: Rollouts, ours: Ours[RolloutBatch]) -> list[dict[str, float]]:
    """Metrics of the optimiser steps of one turn on given replies instead of drawn ones."""
    with patch.object(drawing, "roll_out", lambda *_: replies):
        ours()
    return ours.metrics[-ours.steps_a_turn :]
