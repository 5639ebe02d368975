"""Direct preference optimisation (Rafailov et al., arXiv 2305.18290) and its family: the loss is chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tutelage.data.completions import PackedCompletions, distinct_completions, pack_completions, sequence_logprobs
from tutelage.data.pairs import Pair, render_pairs
from tutelage.model.transformer import CausalLM
from tutelage.objectives.preference import WITHOUT_REFERENCE, Pairs, PreferenceSettings, preference_loss
from tutelage.objectives.types import LossOutput
from tutelage.parallel.shard import shard
from tutelage.parallel.world import World, world_from_environment
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import atomic, read_jsonl
from tutelage.stages.configs import DPOConfig
from tutelage.stages.models import open_model, publish_model, run_dtype
from tutelage.training.loop import fit
from tutelage.training.source import IndexedSource, epoch_positions


class PreferenceBatch(NamedTuple):
    """2B completions, chosen ones first; reference log-probs (2B,) as token sums; weights (B,)."""

    packed: PackedCompletions
    ref_logprobs: Tensor
    weights_B: Tensor


def run(config: DPOConfig, inputs: Inputs, run: StageRun) -> None:
    """Train a policy directly on preference pairs, from the model that is also its reference."""
    world = world_from_environment()
    model, tokenizer = open_model(inputs["model"], run_dtype(config.precision, run, world))
    context = model.config.max_position_embeddings
    pairs = render_pairs(tokenizer, read_jsonl(inputs["preferences"].path / "preferences.jsonl"), context)
    run.notes.extend(pairs.notes(context))
    everything = [*pairs.train, *pairs.validation]
    reference = _reference(model, everything, tokenizer.pad_id, inputs["model"].fingerprint, run, world)
    if config.loss in WITHOUT_REFERENCE:
        run.notes.append(f"{config.loss} has no reference; its rewards in the metrics are mean log-probs")
    train, held_out = pairs.train, pairs.validation
    num_train = len(train)
    settings = PreferenceSettings(config.beta, config.label_smoothing, config.gamma)
    step = _step(config.loss, settings, config.sft_coef)

    def batch_of(indices: Sequence[int]) -> PreferenceBatch:
        return preference_batch([everything[i] for i in indices], reference[indices], tokenizer.pad_id)

    def evaluate(number: int) -> dict[str, float]:
        return _validation(model, step, [batch_of(list(range(start, min(start + 64, len(everything)))))
                                         for start in range(num_train, len(everything), 64)])  # fmt: skip

    a_step = min(config.pairs_a_step, num_train)
    num_steps = config.num_steps or max(1, round(config.epochs * num_train / a_step))

    def make(number: int) -> list[PreferenceBatch]:
        indices = epoch_positions(number * a_step, a_step, num_train, run.seed)
        size = config.micro_batch_pairs
        return [batch_of(indices[start : start + size]) for start in range(0, len(indices), size)]

    shard(model, world)
    fit(model, IndexedSource(num_steps, make), step, config.optimizer, config.loop, run, world=world,
        evaluate=evaluate if held_out else None, tokens=lambda batch: batch.packed.rows.num_tokens,
        description="dpo")  # fmt: skip
    _explain(run)
    publish_model(model, tokenizer, run.directory, world)


def preference_batch(pairs: Sequence[Pair], ref_logprobs_B2: Tensor, pad_id: int) -> PreferenceBatch:
    """Pack the 2B completions of B pairs, with the reference's log-probs [B, 2] in the same order."""
    packed = pack_completions([p.chosen for p in pairs] + [p.rejected for p in pairs], pad_id)
    return PreferenceBatch(packed, ref_logprobs_B2.T.flatten(), torch.tensor([pair.weight for pair in pairs]))


def _step(
    loss: str, settings: PreferenceSettings, sft_coef: float
) -> Callable[[nn.Module, PreferenceBatch], LossOutput]:
    def step(model: nn.Module, batch: PreferenceBatch) -> LossOutput:
        rows = batch.packed.rows
        logprobs_BT, _ = model(rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT, targets_BT=rows.targets_BT)
        chosen, rejected = batch.packed.sums(logprobs_BT).chunk(2)
        chosen_tokens, rejected_tokens = batch.packed.sums((rows.targets_BT >= 0).float()).chunk(2)
        pairs = Pairs(chosen, rejected, chosen_tokens, rejected_tokens, *batch.ref_logprobs.chunk(2))
        return preference_loss(loss, pairs, settings, sft_coef=sft_coef, weights_B=batch.weights_B)

    return step


def _reference(
    model: CausalLM, pairs: Sequence[Pair], pad_id: int, fingerprint: str, run: StageRun, world: World
) -> Tensor:
    """Log-probs of all completions under the starting model, [pairs, 2]; kept by the model's checksum."""
    path = run.scratch / f"reference-{fingerprint[:16]}.safetensors"
    if world.is_main and not path.exists():
        _write_reference(model, pairs, pad_id, path, run)
    world.barrier()
    return load_file(path)["logprobs"]


def _write_reference(model: CausalLM, pairs: Sequence[Pair], pad_id: int, path: Path, run: StageRun) -> None:
    distinct, numbers = distinct_completions([reply for pair in pairs for reply in (pair.chosen, pair.rejected)])
    with run.progress("reference log-probs", len(distinct)) as bar:
        logprobs = sequence_logprobs(model, distinct, pad_id, bar.advance)[numbers]
    run.scratch.mkdir(parents=True, exist_ok=True)
    with atomic(path) as beside:
        save_file({"logprobs": logprobs.view(-1, 2)}, beside)


def _validation(
    model: nn.Module, step: Callable[[nn.Module, PreferenceBatch], LossOutput], batches: Sequence[PreferenceBatch]
) -> dict[str, float]:
    totals: dict[str, list[float]] = {}
    for batch in batches:
        output = step(model, batch)
        for name, (total, count) in {"loss": (output.loss_sum, output.count), **output.metrics}.items():
            pair = totals.setdefault(name, [0.0, 0.0])
            pair[0], pair[1] = pair[0] + float(total), pair[1] + float(count)
    return {f"validation/{name}": total / max(count, 1e-9) for name, (total, count) in totals.items()}


def _explain(run: StageRun) -> None:
    """Say in words what users otherwise find out late: chosen replies losing probability faster than rejected ones."""
    chosen, rejected = run.metrics.get("rewards/chosen", 0.0), run.metrics.get("rewards/rejected", 0.0)
    if chosen < rejected:
        run.notes.append(
            "chosen replies lost more probability than rejected ones: lower the learning rate or set sft_coef"
        )
