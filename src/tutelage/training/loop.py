"""The one training loop. It does not know what is trained: a source gives batches, a step function gives losses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tutelage.errors import ArtifactError, TrainingError
from tutelage.objectives.types import LossOutput
from tutelage.parallel.shard import whole
from tutelage.parallel.world import World
from tutelage.run.progress import no_progress
from tutelage.run.stage import StageRun
from tutelage.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from tutelage.training.optim import build_optimizers, set_rates
from tutelage.training.schedule import rate_factor
from tutelage.training.settings import LoopSettings, OptimizerSettings
from tutelage.training.source import StepSource

BatchIn = TypeVar("BatchIn", contravariant=True)
Batch = TypeVar("Batch")


class StepFn(Protocol[BatchIn]):
    """One micro-batch's summed loss, the count it is divided by, and metrics as (sum, count)."""

    def __call__(self, model: nn.Module, batch: BatchIn, /) -> LossOutput:
        """Run the model and the objective."""


Evaluate = Callable[[int], Mapping[str, float]]


@dataclass
class Sums:
    """Metrics of a step, added over micro-batches and ranks before any division."""

    values: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def add(self, metrics: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Add (sum, count) pairs."""
        for name, (total, count) in metrics.items():
            before = self.values.get(name, (torch.zeros(()), torch.zeros(())))
            self.values[name] = (before[0] + total.detach().float(), before[1] + count.detach().float())

    def means(self, world: World) -> dict[str, float]:
        """Sum / count over all ranks; a metric that nothing was counted for is left out."""
        if not self.values:
            return {}
        names = sorted(self.values)
        both = world.sum(torch.stack([torch.stack(self.values[name]) for name in names])).tolist()
        return {name: total / count for name, (total, count) in zip(names, both, strict=True) if count}


@dataclass
class Loop:
    """Everything that one optimiser step needs."""

    model: nn.Module
    optimizers: Sequence[Optimizer]
    settings: OptimizerSettings
    num_steps: int
    world: World
    last_good: str = "none yet"

    def step(self, number: int, micro_batches: Sequence[Batch], step_fn: StepFn[Batch]) -> dict[str, float]:
        """One update from one step's micro-batches; gradients are summed, then divided once by the whole count."""
        sums, count = Sums(), torch.zeros(())
        for turn, (batch, counts) in enumerate(self.world.share(micro_batches)):
            output = step_fn(self.model, batch)
            self._check_losses(output.loss_sum.detach(), number, turn)
            loss_sum = output.loss_sum if counts else output.loss_sum * 0
            torch.autograd.backward(loss_sum)
            if not counts:
                continue
            count = count + output.count.detach().float()
            sums.add({"loss": (output.loss_sum, output.count), **output.metrics})
        grad_norm = self._normalise(self.world.sum(count))
        if not math.isfinite(grad_norm):
            raise self._not_finite("gradient norm", grad_norm, number, f"{len(micro_batches)} micro-batches")
        factor = rate_factor(number, self.num_steps, self.settings)
        set_rates(self.optimizers, factor)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        rate = self.optimizers[0].param_groups[0]["lr"]
        return {**sums.means(self.world), "grad_norm": grad_norm, "lr": rate}

    def _normalise(self, count: Tensor) -> float:
        """Divide the gradients by the step's count, clip them, and give their norm before clipping."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, 1.0 / (float(count) or 1.0))
        norm = float(whole(torch.nn.utils.get_total_norm(gradients)))
        if math.isfinite(norm) and norm > self.settings.max_grad_norm:
            torch._foreach_mul_(gradients, self.settings.max_grad_norm / norm)
        return norm

    def _check_losses(self, loss_sum: Tensor, step: int, turn: int) -> None:
        """All ranks see all losses of this turn, so that they stop together."""
        losses = torch.zeros(self.world.size)
        losses[self.world.rank] = loss_sum
        for rank, loss in enumerate(self.world.sum(losses).tolist()):
            if not math.isfinite(loss):
                raise self._not_finite("loss", loss, step, f"micro-batch {turn * self.world.size + rank}")

    def check_weights(self, step: int) -> None:
        """Weights that are not finite are neither kept as a checkpoint nor published."""
        for parameter in self.model.parameters():
            total = float(whole(parameter.detach().sum()))
            if not math.isfinite(total):
                raise self._not_finite("sum of a weight", total, step, "after the update")

    def _not_finite(self, what: str, value: float, step: int, where: str) -> TrainingError:
        return TrainingError(
            f"the {what} is {value} at step {step}, {where}: training stops before the weights are spoiled",
            hint=f"last good checkpoint: {self.last_good}; the same command goes on from it. Lower learning_rate or "
            "max_grad_norm (with another setting the stage begins afresh), or look at the data with `tutelage masks`",
        )


def fit(
    model: nn.Module,
    source: StepSource[Batch],
    step_fn: StepFn[Batch],
    settings: OptimizerSettings,
    loop_settings: LoopSettings,
    run: StageRun,
    *,
    world: World | None = None,
    evaluate: Evaluate | None = None,
    tokens: Callable[[Batch], int] | None = None,
    description: str = "",
) -> None:
    """Train `model` in place until the source ends; resumes from `run.scratch` bit for bit.

    `world` comes from outside (`parallel.shard` has been applied to `model` already). Metrics go to the journal,
    evaluations every `evaluate_every` steps and at the end. `tokens` counts a micro-batch's tokens for the rate shown.

    Raises TrainingError for a loss or gradient that is not finite; the last checkpoint stays.
    """
    world = world or World()
    optimizers = build_optimizers(model, settings)
    loop = Loop(model, optimizers, settings, source.num_steps, world)
    start = _resume(loop, source, run)
    clock = time.monotonic()
    model.train()
    progress = run.progress if world.is_main else no_progress
    with progress(description or run.name, source.num_steps) as bar:
        bar.advance(start)
        for number, micro_batches in enumerate(source.steps(start), start=start):
            began = time.monotonic()
            metrics = loop.step(number, micro_batches, step_fn)
            if tokens is not None:
                rate = sum(tokens(batch) for batch in micro_batches) / (time.monotonic() - began)
                metrics["tokens_per_second"] = rate
            done = number + 1
            if evaluate is not None and (done % loop_settings.evaluate_every == 0 or done == source.num_steps):
                metrics |= _evaluated(model, evaluate, done)
            _record(run, world, loop_settings, done, source.num_steps, metrics)
            bar.advance(1, **_shown(metrics))
            waited = torch.tensor(float(time.monotonic() - clock >= loop_settings.checkpoint_seconds))
            due = float(world.sum(waited)) > 0  # all ranks agree, whatever their clocks say
            if done == source.num_steps or (due and source.resumable(done)):
                loop.check_weights(done)
            if due and done < source.num_steps and source.resumable(done):
                saved = save_checkpoint(run.scratch, done, model, optimizers, source.state_dict(), world)
                loop.last_good, clock = str(saved), time.monotonic()
    model.eval()


def _resume(loop: Loop, source: StepSource[Any], run: StageRun) -> int:
    path = latest_checkpoint(run.scratch)
    if path is None:
        if loop.world.is_main:
            run.journal.rewind(0)
        return 0
    step, state = load_checkpoint(path, loop.model, loop.optimizers)
    try:
        source.load_state_dict(state)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{path} is of another version: {error!r}", hint=f"remove {path.parent} to start this stage afresh"
        ) from error
    loop.last_good = str(path)
    if loop.world.is_main:
        run.journal.rewind(step)
        run.notes.append(f"resumed at step {step} of {source.num_steps}")
    return step


def _evaluated(model: nn.Module, evaluate: Evaluate, step: int) -> Mapping[str, float]:
    model.eval()
    with torch.no_grad():
        values = evaluate(step)
    model.train()
    return values


def _record(
    run: StageRun, world: World, settings: LoopSettings, step: int, num_steps: int, metrics: dict[str, float]
) -> None:
    named = {("train/loss" if name == "loss" else name): value for name, value in metrics.items()}
    run.metrics.update(named)
    if world.is_main and (step % settings.log_every == 0 or step == num_steps or "validation/loss" in named):
        run.journal.log(step, named)


SHOWN = {"loss": "loss", "validation/loss": "val", "tokens_per_second": "tok/s", "objective/scores": "score",
         "objective/kl": "kl", "rewards/margins": "margin", "accuracy": "acc"}  # fmt: skip


def _shown(metrics: Mapping[str, float]) -> dict[str, str | float]:
    return {short: metrics[name] for name, short in SHOWN.items() if name in metrics}
