"""TRL's trainers and our loop, a step of each in turn in one process."""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from sides import a_few, best_setting, clock, equal_or_exit, quickest_dtype, report, seconds
from torch import nn
from transformers import PrinterCallback, TrainerCallback

from tutelage.parallel.world import World
from tutelage.training.loop import Loop, StepFn
from tutelage.training.optim import build_optimizers
from tutelage.training.settings import OptimizerSettings
from tutelage.training.source import StepSource

Batch = TypeVar("Batch")


def optimizer(learning_rate: float, max_grad_norm: float = 1.0) -> OptimizerSettings:
    """AdamW at one rate throughout, with the betas that TRL's trainers start with."""
    return OptimizerSettings(learning_rate=learning_rate, betas=(0.9, 0.999), max_grad_norm=max_grad_norm,
                             warmup_share=0.0, decay_share=0.0)  # fmt: skip


def peer_arguments(folder: Path, settings: OptimizerSettings, **more: Any) -> dict[str, Any]:
    """What every trainer of the peer is told: the same optimiser, no checkpoints, no reports, no recomputation."""
    return {"output_dir": str(folder / "peer"), "use_cpu": True, "report_to": "none", "save_strategy": "no",
            "logging_steps": 1, "disable_tqdm": True, "dataloader_pin_memory": False, "gradient_checkpointing": False,
            "bf16": False, "learning_rate": settings.learning_rate, "lr_scheduler_type": "constant",
            "max_grad_norm": settings.max_grad_norm, "seed": 0, **more}  # fmt: skip


class Ours(Generic[Batch]):
    """Our loop; a call makes the optimiser steps of one turn. `metrics` are those of each optimiser step."""

    def __init__(
        self,
        model: nn.Module,
        source: StepSource[Batch],
        step: StepFn[Batch],
        settings: OptimizerSettings,
        steps_a_turn: int = 1,
    ) -> None:
        self.loop = Loop(model, build_optimizers(model, settings), settings, source.num_steps, World())
        self.step, self.steps_a_turn = step, steps_a_turn
        self.metrics: list[dict[str, float]] = []
        self._steps = enumerate(source.steps(0))
        model.train()

    def __call__(self) -> None:
        for _ in range(self.steps_a_turn):
            number, micro_batches = next(self._steps)
            self.metrics.append(self.loop.step(number, micro_batches, self.step))


class InTurn(TrainerCallback):
    """Times every step of a trainer and, after it, one of ours, in seconds; the trainer's start does not count."""

    def __init__(self, ours: Callable[[], Any] | None = None) -> None:
        self.ours = ours
        self.mine: list[float] = []
        self.theirs: list[float] = []
        self.began = 0.0

    @property
    def medians(self) -> tuple[float, float]:
        """Seconds a step, ours and theirs; the first warms up."""
        return statistics.median(self.mine[1:]), statistics.median(self.theirs[1:])

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began = clock()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.theirs.append(clock() - self.began)
        if self.ours is not None:
            self.mine.append(seconds(self.ours))
            print(f"  step {len(self.mine)}: ours {self.mine[-1]:.2f} s, theirs {self.theirs[-1]:.2f} s", flush=True)
        self.began = clock()


class Trainer(Protocol):
    """What all of TRL's trainers have."""

    def train(self) -> Any: ...

    def add_callback(self, callback: TrainerCallback) -> None: ...


def turns(trainer: Trainer, ours: Callable[[], Any] | None = None) -> InTurn:
    """Train to the end of the trainer's steps; ours, if given, after each of its steps."""
    watch = InTurn(ours)
    trainer.add_callback(watch)
    trainer.train()
    return watch


def worth_trying(settings: Mapping[str, dict[str, Any]], quick: bool) -> dict[str, dict[str, Any]]:
    """The peer's settings, without bfloat16 where this processor multiplies it no faster; two of them when quick."""
    plain = quickest_dtype() == torch.float32
    slow = [name for name, setting in settings.items() if plain and setting.get("bf16")]
    if slow:
        print(f"  {', '.join(slow)}: not tried, this processor multiplies bfloat16 no faster", flush=True)
    return a_few({name: setting for name, setting in settings.items() if name not in slow}, quick)


def compare_steps(
    work: str,
    peer_name: str,
    chosen: Namespace,
    settings: Mapping[str, dict[str, Any]],
    peer: Callable[[int, dict[str, Any]], Trainer],
    ours: Callable[[int], Callable[[], Any]],
    agreed: dict[str, float],
) -> None:
    """The row of steps a second: the peer in its quickest setting and our side in turn; both are made for n steps."""

    def cost(setting: dict[str, Any]) -> float:
        return min(turns(peer(2, setting)).theirs[1:])  # the first step warms up

    tried = worth_trying(settings, chosen.quick)
    best = best_setting({name: partial(cost, setting) for name, setting in tried.items()}, lambda run: float(run()))
    steps = chosen.rounds + 1
    mine, theirs = turns(peer(steps, settings[best]), ours(steps)).medians
    report(work, peer_name, best, 1 / mine, 1 / theirs, "steps/s", 3.0, apart=agreed, precision=str(quickest_dtype()))
    equal_or_exit(agreed)


def quiet(trainer: Any) -> Any:
    """The trainer, which then prints no dictionary of metrics after every step."""
    trainer.remove_callback(PrinterCallback)
    return trainer


def compiled(net: Any) -> Any:
    net.forward = torch.compile(net.forward, dynamic=False)
    return net


def logged(trainer: Any, names: Mapping[str, str]) -> list[dict[str, float]]:
    """What a trainer said of each step, under our names for it."""
    rows = [row for row in trainer.state.log_history if all(name in row for name in names)]
    return [{ours: float(row[name]) for name, ours in names.items()} for row in rows]
