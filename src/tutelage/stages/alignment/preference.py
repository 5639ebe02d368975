"""Learning from preference pairs, whatever the loss: pairs, cached reference log-probs, loop, notes, model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tutelage.data.completions import (
    Completion,
    PackedCompletions,
    distinct_completions,
    pack_completions,
    sequence_logprobs,
)
from tutelage.data.pairs import Pair, render_pairs
from tutelage.data.tokenizer import TextTokenizer
from tutelage.model.transformer import CausalLM
from tutelage.objectives.preference import SOFT_LABELS, WITHOUT_REFERENCE, Pairs, PreferenceSettings, preference_loss
from tutelage.objectives.types import LossOutput
from tutelage.parallel.shard import shard
from tutelage.parallel.world import World, world_from_environment
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import atomic
from tutelage.stages.alignment.cost import record_cost
from tutelage.stages.alignment.notes import course, preference_notes
from tutelage.stages.alignment.reward_pairs import preference_rows
from tutelage.stages.alignment.samples import Samples, first_prompts
from tutelage.stages.alignment.settings import PairConfig
from tutelage.stages.models import open_reference, open_trainable, publish_model, run_dtype
from tutelage.training.loop import fit
from tutelage.training.source import IndexedSource, epoch_positions

B = TypeVar("B")


@dataclass(frozen=True)
class Objective:
    """A loss of `objectives.preference` by name, with its settings and the weight of an SFT term."""

    loss: str
    settings: PreferenceSettings
    sft_coef: float = 0.0


class PreferenceBatch(NamedTuple):
    """2B completions, chosen ones first; reference log-probs (2B,) as token sums; weights and labels (B,)."""

    packed: PackedCompletions
    ref_logprobs: Tensor
    weights_B: Tensor
    labels_B: Tensor | None = None  # probability that the chosen one is the better one; None: all are certain


def train_on_pairs(config: PairConfig, inputs: Inputs, run: StageRun, objective: Objective) -> None:
    """Train a policy on preference pairs and publish it."""
    world = world_from_environment()
    dtype = run_dtype(config.precision, run, world)
    model, tokenizer = open_trainable(inputs["model"], dtype, config.lora, run.seed)
    context = model.config.max_position_embeddings
    pairs = render_pairs(tokenizer, preference_rows(inputs), context)
    run.notes.extend(pairs.notes(context))
    everything = [*pairs.train, *pairs.validation]
    soft = sum(pair.probability < 1 for pair in everything)
    if soft and objective.loss not in SOFT_LABELS:
        run.notes.append(f"{soft} pairs state a probability, which `{objective.loss}` takes as certain")
    if objective.loss in WITHOUT_REFERENCE:
        run.notes.append(f"{objective.loss} has no reference; its rewards in the metrics are mean log-probs")
        reference = torch.zeros(len(everything), 2)
    else:
        replies = [reply for pair in everything for reply in (pair.chosen, pair.rejected)]
        reference = reference_logprobs(replies, model, inputs, tokenizer, dtype, run, world).view(-1, 2)
    train, step = pairs.train, pair_step(objective)

    def batch_of(indices: Sequence[int]) -> PreferenceBatch:
        return preference_batch([everything[i] for i in indices], reference[indices], tokenizer.pad_id)

    def evaluate(number: int) -> dict[str, float]:
        parts = in_parts(range(len(train), len(everything)), 64)
        return validation(model, step, [batch_of(part) for part in parts])

    a_step = min(config.pairs_a_step, len(train))
    num_steps = config.num_steps or max(1, round(config.epochs * len(train) / a_step))

    def make(number: int) -> list[PreferenceBatch]:
        indices = epoch_positions(number * a_step, a_step, len(train), run.seed)
        return [batch_of(part) for part in in_parts(indices, config.micro_batch_pairs)]

    samples = samples_of(
        [pair.row for pair in pairs.validation or train], model, tokenizer, run, config.num_samples, world
    )
    shard(model, world)
    fit(model, IndexedSource(num_steps, make), step, config.optimizer, config.loop, run, world=world,
        evaluate=samples.beside(evaluate if pairs.validation else None),
        tokens=lambda batch: batch.packed.rows.num_tokens, description=config.stage)  # fmt: skip
    if world.is_main:
        run.notes += preference_notes(*course(run)[1:])
    record_cost(run, [model])
    samples.publish()
    publish_model(model, tokenizer, run.directory, world)


def preference_batch(pairs: Sequence[Pair], ref_logprobs_B2: Tensor, pad_id: int) -> PreferenceBatch:
    """Pack the 2B completions of B pairs, with the reference's log-probs [B, 2] in the same order."""
    packed = pack_completions([p.chosen for p in pairs] + [p.rejected for p in pairs], pad_id)
    weights_B = torch.tensor([pair.weight for pair in pairs])
    soft = any(pair.probability < 1 for pair in pairs)
    labels_B = torch.tensor([pair.probability for pair in pairs]) if soft else None
    return PreferenceBatch(packed, ref_logprobs_B2.T.flatten(), weights_B, labels_B)


def pair_step(objective: Objective) -> Callable[[nn.Module, PreferenceBatch], LossOutput]:
    """The step function of a preference loss."""

    def step(model: nn.Module, batch: PreferenceBatch) -> LossOutput:
        chosen, rejected = packed_logprobs(model, batch.packed).chunk(2)
        chosen_tokens, rejected_tokens = batch.packed.sums((batch.packed.rows.targets_BT >= 0).float()).chunk(2)
        ref_chosen, ref_rejected = batch.ref_logprobs.chunk(2)
        pairs = Pairs(chosen, rejected, chosen_tokens, rejected_tokens, ref_chosen, ref_rejected, batch.labels_B)
        return preference_loss(
            objective.loss, pairs, objective.settings, sft_coef=objective.sft_coef, weights_B=batch.weights_B
        )

    return step


def packed_logprobs(model: nn.Module, packed: PackedCompletions) -> Tensor:
    """Σ log P of each completion's tokens given its prompt, (N,), differentiable."""
    rows = packed.rows
    logprobs_BT, _ = model(rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT, targets_BT=rows.targets_BT)
    return packed.sums(logprobs_BT)


def reference_logprobs(
    completions: Sequence[Completion],
    model: CausalLM,
    inputs: Inputs,
    tokenizer: TextTokenizer,
    dtype: torch.dtype,
    run: StageRun,
    world: World,
) -> Tensor:
    """Log-probs (N,) of completions under the reference, which is the untrained model if none is named.

    Computed once for all stages of a run folder and kept in its `reference.cache`, under a key of the reference's
    checksum, the dtype and the tokens.
    """
    artifact = inputs.get("reference", inputs["model"])
    key = hashlib.sha256(f"{artifact.fingerprint} {dtype}".encode())
    for completion in completions:
        key.update(np.array([completion.num_prompt, len(completion.ids), *completion.ids], dtype="<i8").tobytes())
    path = run.directory.parent / "reference.cache" / f"{key.hexdigest()[:32]}.safetensors"
    ref = open_reference(inputs, tokenizer, dtype) if "reference" in inputs else model
    if world.is_main and not path.exists():
        distinct, numbers = distinct_completions(completions)
        with run.progress("reference log-probs", len(distinct)) as bar:
            logprobs = sequence_logprobs(ref, distinct, tokenizer.pad_id, bar.advance)[numbers]
        with atomic(path) as beside:
            save_file({"logprobs": logprobs}, beside)
    world.barrier()
    return load_file(path)["logprobs"]


def validation(model: nn.Module, step: Callable[[nn.Module, B], LossOutput], batches: Sequence[B]) -> dict[str, float]:
    """The step function's loss and metrics over held-out batches, as `validation/…`."""
    totals: dict[str, list[float]] = {}
    for batch in batches:
        output = step(model, batch)
        for name, (total, count) in {"loss": (output.loss_sum, output.count), **output.metrics}.items():
            pair = totals.setdefault(name, [0.0, 0.0])
            pair[0], pair[1] = pair[0] + float(total), pair[1] + float(count)
    return {f"validation/{name}": total / max(count, 1e-9) for name, (total, count) in totals.items()}


def in_parts(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    """Micro-batches of a step."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def samples_of(
    rows: Sequence[Mapping[str, object]],
    model: CausalLM,
    tokenizer: TextTokenizer,
    run: StageRun,
    count: int,
    world: World,
) -> Samples:
    """Greedy replies to the first prompts of preference rows; none of a sharded model, which cannot decode."""
    room = model.config.max_position_embeddings
    shown = first_prompts(rows, count if world.size == 1 else 0, lambda row: row["prompt"])
    samples = Samples(model, tokenizer, shown, run, min(64, room))
    samples.beginning()
    return samples
