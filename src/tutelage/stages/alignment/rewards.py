"""What a reply is worth: reward models and rules, each with a name and a weight, combined into one score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tutelage.data.completions import Completion, completion_of
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import TrainingError
from tutelage.feedback.rules import RULES, Replied, Rule, RuleSettings
from tutelage.generation.rollout import Rollouts
from tutelage.model.heads import RewardModel
from tutelage.model.hub import load_reward_model
from tutelage.objectives.advantages import combine_rewards
from tutelage.run.artifacts import Artifact
from tutelage.run.stage import Inputs
from tutelage.stages.alignment.settings import RolloutConfig
from tutelage.stages.reward import score


@dataclass(frozen=True)
class Prompt:
    """A row of `prompts.jsonl` and its tokens up to where the reply begins."""

    ids: list[int]
    row: Mapping[str, Any]


class Judged(NamedTuple):
    """Rollouts as reward sources see them: B replies with their prompts, as tokens and as text."""

    completions: Sequence[Completion]
    replied: Sequence[Replied]


RewardSource = Callable[[Judged], Tensor]
"""A reward for each reply, (B,) float32; NaN where it has none to give."""


class Scores(NamedTuple):
    """The weighted sum (B,), NaN where no source gave a reward, and each source's own rewards by name."""

    total: Tensor
    by_name: Mapping[str, Tensor]


class Rewards:
    """All reward sources of a stage."""

    def __init__(
        self,
        sources: Mapping[str, RewardSource],
        weights: Mapping[str, float],
        tokenizer: TextTokenizer,
        models: Sequence[RewardModel] = (),
    ) -> None:
        self.sources, self.weights, self.tokenizer = sources, weights, tokenizer
        self.models = models  # those that the sources ask

    def __call__(self, prompts: Sequence[Prompt], rollouts: Rollouts) -> Scores:
        """Score every reply; what is not finite counts as no reward."""
        judged = Judged(rollouts.completions, replied_of(prompts, rollouts, self.tokenizer))
        by_name = {name: _finite(source(judged)) for name, source in self.sources.items()}
        weights = torch.tensor([self.weights[name] for name in by_name])
        return Scores(combine_rewards(torch.stack(list(by_name.values()), 1), weights), by_name)


def open_rewards(config: RolloutConfig, inputs: Inputs, tokenizer: TextTokenizer, dtype: torch.dtype) -> Rewards:
    """The reward models and rules that a configuration names."""
    settings = RuleSettings(config.max_tokens, config.length_limit, config.format_pattern)
    sources: dict[str, RewardSource] = {}
    models: list[RewardModel] = []
    for name in config.reward_weights:
        if name in config.reward_models:
            field = "reward_model" if "reward_model" in inputs else f"reward_model.{name}"
            artifact, policy = inputs[field], inputs["model"].name
            model, sources[name] = _open_model(artifact, policy, tokenizer, dtype, config.reward_by_text)
            models.append(model)
        else:
            sources[name] = by_rule(RULES[name], settings)
    return Rewards(sources, config.reward_weights, tokenizer, models)


def replied_of(prompts: Sequence[Prompt], rollouts: Rollouts, tokenizer: TextTokenizer) -> list[Replied]:
    """The replies as text."""
    finished = rollouts.finished(tokenizer.end_of_turn_id)
    return [
        Replied(prompt.row, tokenizer.decode(reply.ids) if reply.text is None else reply.text, ended, len(reply.ids))
        for prompt, reply, ended in zip(prompts, rollouts.replies, finished, strict=True)
    ]


def by_rule(rule: Rule, settings: RuleSettings) -> RewardSource:
    """A rule as a source."""
    return lambda judged: torch.tensor([rule(reply, settings) for reply in judged.replied])


def by_tokens(model: RewardModel, pad_id: int) -> RewardSource:
    """A reward model that reads the rollouts' own tokens."""
    return lambda judged: score_fitting(model, judged.completions, pad_id)


def by_text(model: RewardModel, tokenizer: TextTokenizer) -> RewardSource:
    """A reward model of another tokenizer: it reads the replies' text, rendered by its own chat template."""

    def source(judged: Judged) -> Tensor:
        completions = [
            completion_of(tokenizer, reply.prompt["messages"], reply.text, reply.finished) for reply in judged.replied
        ]
        return score_fitting(model, completions, tokenizer.pad_id)

    return source


@torch.no_grad()
def score_fitting(model: RewardModel, completions: Sequence[Completion], pad_id: int) -> Tensor:
    """Scores (N,) of the completions that fit into the reward model's context; NaN for longer ones."""
    context = model.config.max_position_embeddings
    places = [place for place, completion in enumerate(completions) if len(completion.ids) <= context]
    scores = torch.full((len(completions),), math.nan)
    if places:
        scores[places] = score(model, [completions[place] for place in places], pad_id)
    return scores


def _open_model(
    artifact: Artifact, policy: str, tokenizer: TextTokenizer, dtype: torch.dtype, may_read_text: bool
) -> tuple[RewardModel, RewardSource]:
    own = TextTokenizer.load(artifact.path)
    model = load_reward_model(artifact.path, dtype).eval()
    if own.fingerprint == tokenizer.fingerprint:
        return model, by_tokens(model, tokenizer.pad_id)
    if may_read_text:
        return model, by_text(model, own)
    raise TrainingError(
        f"{artifact.name} and {policy} have different tokenizers: the policy's token ids mean other text to it",
        hint="set reward_by_text: true to let it read the replies' text, or train a reward model of the same family",
    )


def _finite(rewards_B: Tensor) -> Tensor:
    return rewards_B.masked_fill(~rewards_B.isfinite(), math.nan)
