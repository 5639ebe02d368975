"""Checkpoints: model, optimisers, source and random state as safetensors and JSON; written beside, then renamed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from tutelage.errors import ArtifactError
from tutelage.parallel.shard import copy_whole, whole
from tutelage.parallel.world import World

NAME = "checkpoint-{step:09d}"


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    source_state: Mapping[str, Any],
    world: World,
) -> Path:
    """Write `folder/checkpoint-<step>` and remove older ones. A kill leaves the older one or the new one, whole."""
    final = folder / NAME.format(step=step)
    tensors = {f"model.{name}": whole(tensor) for name, tensor in model.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, parameter in enumerate(_parameters(optimizer)):
            for key, value in optimizer.state[parameter].items():
                tensors[f"optimizer.{number}.{index}.{key}"] = whole(torch.as_tensor(value))
    plain = {key: value for key, value in source_state.items() if not isinstance(value, Tensor)}
    tensors |= {f"source.{key}": value for key, value in source_state.items() if isinstance(value, Tensor)}
    tensors["random"] = torch.get_rng_state()
    if world.is_main:
        _publish(final, tensors, {"step": step, "source": plain})
    world.barrier()
    return final


def _publish(final: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    folder = final.parent
    beside = folder / "checkpoint.partial"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    # clones: safetensors refuses tensors that share memory (tied embeddings)
    save_file(
        {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, beside / "state.safetensors"
    )
    (beside / "state.json").write_text(json.dumps(state), encoding="utf-8")
    if final.exists():
        shutil.rmtree(final)
    beside.rename(final)
    for old in folder.glob("checkpoint-*"):
        if old != final:
            shutil.rmtree(old)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint, if there is one."""
    return max(folder.glob("checkpoint-*"), default=None)


def load_checkpoint(path: Path, model: nn.Module, optimizers: Sequence[Optimizer]) -> tuple[int, dict[str, Any]]:
    """Fill model and optimisers from a checkpoint; returns the step and the source's state.

    Raises ArtifactError for a damaged checkpoint or one of another model.
    """
    try:
        tensors = load_file(path / "state.safetensors")
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        for name, target in model.state_dict().items():
            copy_whole(target, tensors[f"model.{name}"])
        for number, optimizer in enumerate(optimizers):
            _load_optimizer(optimizer, f"optimizer.{number}.", tensors)
        torch.set_rng_state(tensors["random"])
    except Exception as error:
        raise ArtifactError(
            f"{path} cannot be resumed from: {error}", hint=f"remove {path.parent} to start this stage afresh"
        ) from error
    source = {key.removeprefix("source."): value for key, value in tensors.items() if key.startswith("source.")}
    return int(state["step"]), {**state["source"], **source}


def _load_optimizer(optimizer: Optimizer, prefix: str, tensors: Mapping[str, Tensor]) -> None:
    for index, parameter in enumerate(_parameters(optimizer)):
        start = f"{prefix}{index}."
        for name, value in tensors.items():
            if not name.startswith(start):
                continue
            key = name.removeprefix(start)
            if value.shape == parameter.shape:
                buffer = torch.zeros_like(parameter, dtype=value.dtype)
                copy_whole(buffer, value)
                optimizer.state[parameter][key] = buffer
            else:
                optimizer.state[parameter][key] = value.clone()


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
