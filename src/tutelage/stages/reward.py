"""Reward modelling: a scalar for prompt and reply, trained on preference pairs (Bradley–Terry, or a hinge)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tutelage.data.completions import (
    Completion,
    PackedCompletions,
    distinct_completions,
    in_token_batches,
    pack_completions,
)
from tutelage.data.pairs import Pair, render_pairs
from tutelage.model.heads import RewardModel
from tutelage.objectives.reward import bradley_terry, calibration_error, hinge
from tutelage.objectives.types import LossOutput
from tutelage.parallel.shard import copy_whole, shard, whole
from tutelage.parallel.world import world_from_environment
from tutelage.run.stage import Inputs, StageRun
from tutelage.stages.alignment.reward_pairs import notes_on, preference_rows, prompts_of
from tutelage.stages.configs import RewardConfig
from tutelage.stages.models import open_model, publish_model, run_dtype
from tutelage.training.loop import fit
from tutelage.training.source import IndexedSource, epoch_positions


class RankingBatch(NamedTuple):
    """All pairs of several prompts. Every completion is packed once, however many pairs it is in."""

    packed: PackedCompletions
    chosen_B: Tensor  # numbers of completions
    rejected_B: Tensor
    weights_B: Tensor
    margins_B: Tensor
    labels_B: Tensor  # probability that the chosen one is the better one


def run(config: RewardConfig, inputs: Inputs, run: StageRun) -> None:
    """Train a reward model from a language model's weights, shift its scores to average 0, measure it."""
    world = world_from_environment()
    dtype = run_dtype(config.precision, run, world)
    policy, tokenizer = open_model(inputs["model"], dtype)
    pairs = render_pairs(tokenizer, preference_rows(inputs), policy.config.max_position_embeddings)
    run.notes.extend([*pairs.notes(policy.config.max_position_embeddings), *notes_on(pairs.train, config)])
    model = RewardModel(policy.config, run.seed, dtype)
    model.model.load_state_dict(policy.model.state_dict())
    shard(model, world)
    held_out = pairs.validation

    def evaluate(step: int) -> dict[str, float]:
        return pair_accuracy(lambda rows: score(model, rows, tokenizer.pad_id), held_out)

    source = ranking_steps(pairs.train, config, tokenizer.pad_id, run.seed)
    fit(model, source, _step(config), config.optimizer, config.loop, run, world=world,
        evaluate=evaluate if held_out else None, tokens=lambda batch: batch.packed.rows.num_tokens,
        description="reward")  # fmt: skip
    _centre(model, held_out or pairs.train, tokenizer.pad_id)
    if held_out:
        _compare_with_length(held_out, run)
    publish_model(model, tokenizer, run.directory, world)


def ranking_steps(pairs: Sequence[Pair], config: RewardConfig, pad_id: int, seed: int) -> IndexedSource[RankingBatch]:
    """Steps of `prompts_a_step` prompts with all their pairs (2203.02155, section 3.5), shuffled anew each epoch."""
    prompts = prompts_of(pairs, config)
    a_step = min(config.prompts_a_step, len(prompts))
    num_steps = config.num_steps or max(1, round(config.epochs * len(prompts) / a_step))

    def make(step: int) -> list[RankingBatch]:
        chosen = [prompts[index] for index in epoch_positions(step * a_step, a_step, len(prompts), seed)]
        size = config.micro_batch_prompts
        parts = [chosen[start : start + size] for start in range(0, len(chosen), size)]
        return [ranking_batch([pair for group in part for pair in group], pad_id) for part in parts]

    return IndexedSource(num_steps, make)


def ranking_batch(pairs: Sequence[Pair], pad_id: int) -> RankingBatch:
    """Pack the distinct completions of B pairs; the loss is divided by the sum of the pairs' weights."""
    distinct, numbers = distinct_completions([p.chosen for p in pairs] + [p.rejected for p in pairs])
    chosen_B, rejected_B = torch.tensor(numbers).chunk(2)
    stated_3B = torch.tensor(
        [[p.weight for p in pairs], [p.margin or 0.0 for p in pairs], [p.probability for p in pairs]]
    )
    return RankingBatch(pack_completions(distinct, pad_id), chosen_B, rejected_B, *stated_3B.unbind())


def packed_scores(model: nn.Module, packed: PackedCompletions) -> Tensor:
    """The score of each completion at its last token, (N,) float32."""
    rows = packed.rows
    scores: Tensor = model(rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT, packed.last)
    return scores


def _step(config: RewardConfig) -> Callable[[nn.Module, RankingBatch], LossOutput]:
    def step(model: nn.Module, batch: RankingBatch) -> LossOutput:
        scores = packed_scores(model, batch.packed)
        sides = scores[batch.chosen_B], scores[batch.rejected_B]
        if config.loss == "hinge":
            return hinge(*sides, margin=batch.margins_B, weights_B=batch.weights_B, centring=config.centring)
        return bradley_terry(*sides, margin_B=batch.margins_B, labels_B=batch.labels_B, weights_B=batch.weights_B,
                             centring=config.centring)  # fmt: skip

    return step


@torch.no_grad()
def score(model: RewardModel, completions: Sequence[Completion], pad_id: int) -> Tensor:
    """Scores (N,), float32, in the order given."""
    parts = in_token_batches(completions)
    return torch.cat([packed_scores(model, pack_completions([completions[i] for i in part], pad_id)) for part in parts])


def pair_accuracy(scorer: Callable[[Sequence[Completion]], Tensor], pairs: Sequence[Pair]) -> dict[str, float]:
    """Share of held-out pairs ordered as labelled (a tie counts ½), the same without flips if known, and ECE."""
    distinct, numbers = distinct_completions([p.chosen for p in pairs] + [p.rejected for p in pairs])
    chosen, rejected = scorer(distinct)[numbers].chunk(2)
    margins = chosen - rejected
    metrics = {
        "validation/accuracy": _accuracy(margins),
        "validation/margin": float(margins.mean()),
        "validation/ece": float(calibration_error(margins)),
    }
    clean = [pair.row.get("clean_preference") for pair in pairs]
    if all(known is not None for known in clean):
        signs = torch.tensor([1.0 if known else -1.0 for known in clean])
        metrics["validation/clean_accuracy"] = _accuracy(margins * signs)
    return metrics


def _accuracy(margins: Tensor) -> float:
    return float(((margins > 0).float() + 0.5 * (margins == 0).float()).mean())


def _centre(model: RewardModel, pairs: Sequence[Pair], pad_id: int) -> None:
    """Shift the scores so that the replies of `pairs` average 0."""
    replies = [completion for pair in pairs for completion in (pair.chosen, pair.rejected)]
    with torch.no_grad():
        copy_whole(model.bias, whole(model.bias) - score(model, replies, pad_id).mean())


def _compare_with_length(held_out: Sequence[Pair], run: StageRun) -> None:
    """What a scorer that knows only length reaches: a reward model must know more."""
    lengths = pair_accuracy(lambda rows: torch.tensor([float(len(c.ids) - c.num_prompt) for c in rows]), held_out)
    longer = lengths["validation/accuracy"]
    run.metrics["length_baseline/accuracy"] = max(longer, 1 - longer)
    if run.metrics["length_baseline/accuracy"] > run.metrics["validation/accuracy"] - 0.03:
        run.notes.append("the reward model is hardly better than counting tokens: collect pairs of like length")
