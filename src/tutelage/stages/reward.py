"""Reward modelling: a scalar for prompt and reply, trained on preference pairs by the Bradley–Terry likelihood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tutelage.data.batches import Batch
from tutelage.data.completions import Completion, length_sorted, pad_completions
from tutelage.data.pairs import Pair, in_micro_batches, render_pairs
from tutelage.model.heads import RewardModel
from tutelage.objectives.reward import bradley_terry, calibration_error
from tutelage.objectives.types import LossOutput
from tutelage.parallel.shard import copy_whole, shard, whole
from tutelage.parallel.world import world_from_environment
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl
from tutelage.stages.configs import RewardConfig
from tutelage.stages.models import open_model, publish_model, run_dtype
from tutelage.training.loop import fit
from tutelage.training.source import IndexedSource, epoch_positions


class PairBatch(NamedTuple):
    """2B padded rows, chosen ones first; weights (B,)."""

    rows: Batch
    weights_B: Tensor


def run(config: RewardConfig, inputs: Inputs, run: StageRun) -> None:
    """Train a reward model from a language model's weights, shift its scores to average 0, measure it."""
    world = world_from_environment()
    dtype = run_dtype(config.precision, run, world)
    policy, tokenizer = open_model(inputs["model"], dtype)
    pairs = render_pairs(tokenizer, read_jsonl(inputs["preferences"].path / "preferences.jsonl"),
                         policy.config.max_position_embeddings)  # fmt: skip
    run.notes.extend(pairs.notes(policy.config.max_position_embeddings))
    model = RewardModel(policy.config, run.seed, dtype)
    model.model.load_state_dict(policy.model.state_dict())
    shard(model, world)
    held_out = pairs.validation

    def evaluate(step: int) -> dict[str, float]:
        return pair_accuracy(lambda rows: score(model, rows, tokenizer.pad_id), held_out)

    fit(model, pair_steps(pairs.train, config, tokenizer.pad_id, run.seed), _step(config.centring), config.optimizer,
        config.loop, run, world=world, evaluate=evaluate if held_out else None, description="reward")  # fmt: skip
    if held_out:
        _finish(model, held_out, tokenizer.pad_id, run)
    publish_model(model, tokenizer, run.directory, world)


def pair_steps(pairs: Sequence[Pair], config: RewardConfig, pad_id: int, seed: int) -> IndexedSource[PairBatch]:
    """Steps of `pairs_a_step` pairs, shuffled anew each epoch."""
    a_step = min(config.pairs_a_step, len(pairs))
    num_steps = config.num_steps or max(1, round(config.epochs * len(pairs) / a_step))

    def make(step: int) -> list[PairBatch]:
        chosen = epoch_positions(step * a_step, a_step, len(pairs), seed)
        parts = in_micro_batches(pairs, chosen, config.micro_batch_pairs)
        return [pair_batch([pairs[index] for index in part], pad_id) for part in parts]

    return IndexedSource(num_steps, make)


def pair_batch(pairs: Sequence[Pair], pad_id: int) -> PairBatch:
    """Pad B pairs into 2B rows. The loss is divided by the sum of the weights, which the pairs of one prompt share."""
    rows = pad_completions([p.chosen for p in pairs] + [p.rejected for p in pairs], pad_id)
    return PairBatch(rows, torch.tensor([pair.weight for pair in pairs]))


def last_tokens(batch: Batch) -> tuple[Tensor, Tensor]:
    """(row, column) of every row's last token that is not padding: where a score is read."""
    columns = (batch.segment_ids_BT > 0).sum(1) - 1
    return torch.arange(len(columns)), columns


def _step(centring: float) -> Callable[[nn.Module, PairBatch], LossOutput]:
    def step(model: nn.Module, batch: PairBatch) -> LossOutput:
        rows = batch.rows
        scores = model(rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT, last_tokens(rows))
        chosen_B, rejected_B = scores.chunk(2)
        return bradley_terry(chosen_B, rejected_B, weights_B=batch.weights_B, centring=centring)

    return step


@torch.no_grad()
def score(model: RewardModel, completions: Sequence[Completion], pad_id: int, max_tokens: int = 16_384) -> Tensor:
    """Scores (N,), float32, in the order given."""
    scores = torch.zeros(len(completions))
    for indices in length_sorted(completions, max_tokens):
        rows = pad_completions([completions[index] for index in indices], pad_id)
        scores[indices] = model(rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT, last_tokens(rows))
    return scores


def pair_accuracy(scorer: Callable[[Sequence[Completion]], Tensor], pairs: Sequence[Pair]) -> dict[str, float]:
    """Share of held-out pairs ordered as labelled (a tie counts ½), the same without flips if known, and ECE."""
    margins = scorer([pair.chosen for pair in pairs]) - scorer([pair.rejected for pair in pairs])
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


def _finish(model: RewardModel, held_out: Sequence[Pair], pad_id: int, run: StageRun) -> None:
    """Shift the scores so that held-out replies average 0; compare with a scorer that knows only length."""
    replies = [completion for pair in held_out for completion in (pair.chosen, pair.rejected)]
    with torch.no_grad():
        copy_whole(model.bias, whole(model.bias) - score(model, replies, pad_id).mean())
    lengths = pair_accuracy(lambda rows: torch.tensor([float(len(c.ids) - c.num_prompt) for c in rows]), held_out)
    longer = lengths["validation/accuracy"]
    run.metrics["length_baseline/accuracy"] = max(longer, 1 - longer)
    if run.metrics["length_baseline/accuracy"] > run.metrics["validation/accuracy"] - 0.03:
        run.notes.append("the reward model is hardly better than counting tokens: collect pairs of like length")
