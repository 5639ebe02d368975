"""Kahneman–Tversky optimisation (Ethayarajh et al., arXiv 2402.01306): single replies, labelled desirable or not.

A reply's log-ratio is measured against a baseline z: the mean log-ratio of replies to prompts that they do not belong
to. z belongs to the whole step and is computed before the first of its micro-batches is trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tutelage.data.completions import Completion, PackedCompletions, pack_completions, sequence_logprobs
from tutelage.data.labelled import Labelled, render_labelled
from tutelage.objectives.preference import kto, kto_baseline
from tutelage.objectives.types import LossOutput
from tutelage.parallel.shard import shard
from tutelage.parallel.world import world_from_environment
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl
from tutelage.stages.alignment.cost import record_cost
from tutelage.stages.alignment.notes import course, preference_notes
from tutelage.stages.alignment.preference import in_parts, packed_logprobs, reference_logprobs, samples_of, validation
from tutelage.stages.configs import KTOConfig
from tutelage.stages.models import open_trainable, publish_model, run_dtype
from tutelage.training.loop import fit
from tutelage.training.source import IndexedSource, epoch_positions


class LabelledBatch(NamedTuple):
    """B completions; reference log-probs (B,) as token sums; which are desirable (B,); the step's baseline z."""

    packed: PackedCompletions
    ref_logprobs_B: Tensor
    desirable_B: Tensor
    baseline: Tensor


@dataclass(frozen=True)
class Examples:
    """Labelled replies with reference log-probs, and the same replies to other prompts, where there are any."""

    labelled: Sequence[Labelled]
    ref_logprobs: Tensor
    mismatched: dict[int, Completion]  # by the number of the reply
    ref_mismatched: dict[int, float]
    pad_id: int

    def batches(self, indices: Sequence[int], size: int, baseline: Tensor) -> Iterator[LabelledBatch]:
        """The replies of a step in micro-batches, all with the baseline of the whole step."""
        for part in in_parts(indices, size):
            packed = pack_completions([self.labelled[i].completion for i in part], self.pad_id)
            desirable = torch.tensor([self.labelled[i].desirable for i in part])
            yield LabelledBatch(packed, self.ref_logprobs[part], desirable, baseline)

    def baseline(self, model: nn.Module, indices: Sequence[int]) -> Tensor:
        """z of these replies under the model as it is now; 0 if none has a mismatched prompt."""
        found = [i for i in indices if i in self.mismatched]
        logprobs = sequence_logprobs(model, [self.mismatched[i] for i in found], self.pad_id)
        return kto_baseline(logprobs, torch.tensor([self.ref_mismatched[i] for i in found]))


def run(config: KTOConfig, inputs: Inputs, run: StageRun) -> None:
    """Train a policy on labelled replies, from the model that is also its reference."""
    world = world_from_environment()
    dtype = run_dtype(config.precision, run, world)
    model, tokenizer = open_trainable(inputs["model"], dtype, config.lora, run.seed)
    context = model.config.max_position_embeddings
    found = render_labelled(tokenizer, read_jsonl(inputs["preferences"].path / "preferences.jsonl"), context)
    run.notes.extend([*found.notes(context), *_balance(found.train, config)])
    everything, num_train = [*found.train, *found.validation], len(found.train)
    mismatched = mismatches(everything, num_train, context)
    logprobs = reference_logprobs(
        [*(row.completion for row in everything), *mismatched.values()], model, inputs, tokenizer, dtype, run, world
    )
    ref_mismatched = dict(zip(mismatched, logprobs[len(everything) :].tolist(), strict=True))
    examples = Examples(everything, logprobs[: len(everything)], mismatched, ref_mismatched, tokenizer.pad_id)
    if not mismatched:
        run.notes.append("all replies are to one prompt: the baseline of KTO cannot be estimated and is 0")
    step = _step(config)

    def evaluate(number: int) -> dict[str, float]:
        held_out = range(num_train, len(everything))
        return validation(model, step, list(examples.batches(held_out, 64, examples.baseline(model, held_out))))

    a_step = min(config.replies_a_step, num_train)
    num_steps = config.num_steps or max(1, round(config.epochs * num_train / a_step))

    def make(number: int) -> list[LabelledBatch]:
        indices = epoch_positions(number * a_step, a_step, num_train, run.seed)
        return list(examples.batches(indices, config.micro_batch_replies, examples.baseline(model, indices)))

    samples = samples_of([row.row for row in everything[::-1]], model, tokenizer, run, config.num_samples, world)
    shard(model, world)
    fit(model, IndexedSource(num_steps, make), step, config.optimizer, config.loop, run, world=world,
        evaluate=samples.beside(evaluate if found.validation else None),
        tokens=lambda batch: batch.packed.rows.num_tokens, description="kto")  # fmt: skip
    if world.is_main:
        run.notes += preference_notes(*course(run)[1:])
    record_cost(run, [model])
    samples.publish()
    publish_model(model, tokenizer, run.directory, world)


def mismatches(rows: Sequence[Labelled], num_train: int, context: int) -> dict[int, Completion]:
    """Each reply after another row's prompt, of the same split and fitting into the context, by the reply's number.

    The other row is the next one with a different prompt, so that it is the same in every epoch and on every rank.
    """
    found = {}
    for start, end in ((0, num_train), (num_train, len(rows))):
        size = end - start
        for place in range(size):
            own = rows[start + place].completion
            others = (rows[start + (place + shift) % size].completion for shift in range(1, size))
            prompts = (other.ids[: other.num_prompt] for other in others)
            reply = own.ids[own.num_prompt :]
            other = next(
                (p for p in prompts if p != own.ids[: own.num_prompt] and len(p) + len(reply) <= context), None
            )
            if other is not None:
                found[start + place] = Completion([*other, *reply], len(other))
    return found


def _step(config: KTOConfig) -> Callable[[nn.Module, LabelledBatch], LossOutput]:
    def step(model: nn.Module, batch: LabelledBatch) -> LossOutput:
        return kto(
            packed_logprobs(model, batch.packed),
            batch.ref_logprobs_B,
            batch.desirable_B,
            batch.baseline,
            beta=config.beta,
            desirable_weight=config.desirable_weight,
            undesirable_weight=config.undesirable_weight,
        )

    return step


def _balance(rows: Sequence[Labelled], config: KTOConfig) -> list[str]:
    """The paper asks for λ_D·n_D / (λ_U·n_U) between 1 and 4/3 (section 4.2)."""
    desirable = sum(row.desirable for row in rows)
    undesirable = len(rows) - desirable
    ratio = config.desirable_weight * desirable / max(config.undesirable_weight * undesirable, 1e-9)
    if 0.99 <= ratio <= 1.5:
        return []
    note = (
        f"{desirable} desirable replies weigh {ratio:.2g} times the {undesirable} undesirable ones; KTO wants 1 to "
        "4/3: set desirable_weight or undesirable_weight"
    )
    return [note]
