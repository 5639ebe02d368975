"""Runs a stage in several processes that find one another as under torchrun."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist

from tiny import (
    Interrupter,
    conversations_artifact,
    model_artifact,
    preferences_artifact,
    stage_run,
    tokens_artifact,
)
from tutelage.run.artifacts import Artifact
from tutelage.run.progress import no_progress
from tutelage.run.stage import Inputs
from tutelage.stages import dpo, reward, sft
from tutelage.stages.configs import DPOConfig, RewardConfig, SFTConfig
from tutelage.training import loop

TESTS = Path(__file__).parents[1]


def make_inputs(folder: Path, **changes: Any) -> dict[str, Artifact]:
    return {
        "model": model_artifact(folder / "model", **changes),
        "conversations": conversations_artifact(folder / "conversations"),
        "replay": tokens_artifact(folder / "tokens"),
        "preferences": preferences_artifact(folder / "preferences"),
    }


def run_stage(stage: str, folder: Path, name: str, inputs: Inputs, settings: dict[str, Any], stop_at: int = 0) -> None:
    """One process's part; `stop_at` interrupts it there, as Ctrl-C would, on every rank."""
    run = stage_run(folder / name, Interrupter(stop_at, stage) if stop_at else no_progress)
    loop.no_progress = run.progress  # what other ranks than the main one show
    common = {"precision": "float32", **settings}
    try:
        match stage:
            case "sft":
                wanted = {key: inputs[key] for key in ("model", "conversations", "replay")}
                sft.run(SFTConfig(model="", conversations="", replay="", **common), wanted, run)
            case "reward":
                reward.run(RewardConfig(model="", preferences="", **common), inputs, run)
            case "dpo":
                dpo.run(DPOConfig(model="", preferences="", **common), inputs, run)
    except KeyboardInterrupt:
        (folder / f"{name}.interrupted").touch()


def launch(size: int, stage: str, folder: Path, name: str, settings: dict[str, Any], stop_at: int = 0) -> None:
    """`run_stage` in `size` processes over gloo, with the inputs of `folder / 'inputs.json'`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = {
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(TESTS),
    }
    job = json.dumps([stage, str(folder), name, settings, stop_at])
    processes = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__)), job],
            env={**os.environ, **world, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    outputs = [process.communicate(timeout=120)[1] for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(outputs)


def main() -> None:
    stage, folder, name, settings, stop_at = json.loads(sys.argv[1])
    known = json.loads((Path(folder) / "inputs.json").read_text())
    inputs = {field: Artifact(*rest[:2], Path(rest[2]), rest[3]) for field, rest in known.items()}
    run_stage(stage, Path(folder), name, inputs, settings, stop_at)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
