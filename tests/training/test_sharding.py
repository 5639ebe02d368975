from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from tiny import journal_without_times

from .worlds import launch, make_inputs, run_stage

# 6 conversations in rows of their own, so that the micro-batches of a step are many and cannot be dealt out evenly
SFT: dict[str, Any] = {
    "num_steps": 5,
    "conversations_a_step": 6,
    "micro_batch_rows": 1,
    "replay_rows": 3,
    "context": 24,
    "validation_share": 0.2,
    "loop": {"evaluate_every": 2, "checkpoint_seconds": 0},
}
SHORT = {"num_steps": 4, "loop": {"checkpoint_seconds": 0}}
BATCHES = {
    "dpo": {"pairs_a_step": 6, "micro_batch_pairs": 2},
    "reward": {"prompts_a_step": 6, "micro_batch_prompts": 2},
}
MUON = {"kind": "muon", "learning_rate": 0.003, "muon_learning_rate": 0.01}


def prepare(folder: Path, **changes: Any) -> dict[str, Any]:
    inputs = make_inputs(folder, **changes)
    known = {field: [a.name, a.type, str(a.path), a.fingerprint] for field, a in inputs.items()}
    (folder / "inputs.json").write_text(json.dumps(known))
    return inputs


def weights(folder: Path) -> torch.Tensor:
    tensors = load_file(folder / "model.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def same_training(start: Path, one: Path, two: Path, share: float) -> None:
    """What differs between the two is a small share of the way that training has gone."""
    way = (weights(one) - weights(start)).norm()
    assert way > 0.1
    assert (weights(one) - weights(two)).norm() < share * way


@pytest.mark.parametrize(
    ("optimizer", "tied", "share"),
    [
        pytest.param({"learning_rate": 0.003}, True, 1e-4, id="adamw"),
        pytest.param(MUON, False, 1e-3, id="muon", marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_as_one_does(tmp_path: Path, optimizer: dict[str, Any], tied: bool, share: float) -> None:
    inputs = prepare(tmp_path, tie_word_embeddings=tied)
    settings = {**SFT, "optimizer": optimizer}
    run_stage("sft", tmp_path, "one", inputs, settings)
    launch(2, "sft", tmp_path, "two", settings)
    same_training(tmp_path / "model", tmp_path / "one", tmp_path / "two", share)
    one, two = (journal_without_times(tmp_path / f"{name}.jsonl") for name in ("one", "two"))
    assert [row["step"] for row in two] == [1, 2, 3, 4, 5]
    for first, second in zip(one, two, strict=True):
        assert first == pytest.approx(second, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2)])
def test_a_checkpoint_is_taken_up_by_another_number_of_processes(tmp_path: Path, first: int, second: int) -> None:
    inputs = prepare(tmp_path)
    settings = {**SFT, "optimizer": MUON}
    run_stage("sft", tmp_path, "whole", inputs, settings)
    for size, stop_at in ((first, 4), (second, 0)):
        if size == 1:
            run_stage("sft", tmp_path, "parts", inputs, settings, stop_at)
        else:
            launch(size, "sft", tmp_path, "parts", settings, stop_at)
    assert (tmp_path / "parts.interrupted").exists()
    same_training(tmp_path / "model", tmp_path / "whole", tmp_path / "parts", 1e-3)
    assert [row["step"] for row in journal_without_times(tmp_path / "parts.jsonl")] == [1, 2, 3, 4, 5]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "more"),
    [
        pytest.param("reward", {}, id="reward"),
        pytest.param("dpo", {}, id="dpo"),
        pytest.param("dpo", {"lora": {"rank": 2}, "optimizer": {"learning_rate": 0.01}}, id="dpo-lora"),
    ],
)
def test_preference_stages_in_two_processes(tmp_path: Path, stage: str, more: dict[str, Any]) -> None:
    inputs = prepare(tmp_path)
    settings = SHORT | BATCHES[stage] | more
    run_stage(stage, tmp_path, "one", inputs, settings)
    launch(2, stage, tmp_path, "two", settings)
    assert_close(weights(tmp_path / "one"), weights(tmp_path / "two"), rtol=1e-4, atol=1e-5)
    if "lora" in more:
        adapters = [load_file(tmp_path / name / "adapter/adapter_model.safetensors") for name in ("one", "two")]
        assert_close(*adapters, rtol=1e-3, atol=1e-5)
        assert any(bool(tensor.any()) for name, tensor in adapters[0].items() if "lora_B" in name)
