"""Every stage that can train an adapter: the base stays, the merged model is published, the adapter is beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tiny import (
    Interrupter,
    conversations_artifact,
    model_artifact,
    preferences_artifact,
    prompts_artifact,
    reward_artifact,
    stage_run,
    tree_bytes,
)
from tutelage.model.hub import load_causal_lm
from tutelage.run.journal import read_journal
from tutelage.run.stage import StageRun
from tutelage.stages import distill, dpo, grpo, kto, orpo, ppo, rloo, sft
from tutelage.stages.configs import (
    DistillConfig,
    DPOConfig,
    GRPOConfig,
    KTOConfig,
    ORPOConfig,
    PPOConfig,
    RLOOConfig,
    SFTConfig,
)

ROLL: dict[str, Any] = {"prompts": "", "reward_model": "", "num_rollout_batches": 2, "max_tokens": 5}
STAGES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "sft": (sft.run, SFTConfig, {"conversations": "", "num_steps": 3}),
    "distill": (distill.run, DistillConfig, {"teacher": "", "conversations": "", "num_steps": 3}),
    "dpo": (dpo.run, DPOConfig, {"preferences": "", "num_steps": 3}),
    "orpo": (orpo.run, ORPOConfig, {"preferences": "", "num_steps": 3}),
    "kto": (kto.run, KTOConfig, {"preferences": "", "num_steps": 3}),
    "ppo": (ppo.run, PPOConfig, {"rollouts_a_batch": 8, **ROLL}),
    "grpo": (grpo.run, GRPOConfig, {"prompts_a_batch": 2, "num_replies": 4, **ROLL}),
    "rloo": (rloo.run, RLOOConfig, {"prompts_a_batch": 2, "num_replies": 4, **ROLL}),
}


def train(folder: Path, stage: str, run: StageRun) -> None:
    inputs = {
        "model": model_artifact(folder / "m"),
        "conversations": conversations_artifact(folder / "c"),
        "preferences": preferences_artifact(folder / "f"),
        "prompts": prompts_artifact(folder / "p"),
        "reward_model": reward_artifact(folder / "r", seed=1),
        "teacher": model_artifact(folder / "t", seed=1),
    }
    run_stage, config, settings = STAGES[stage]
    wanted = {name: artifact for name, artifact in inputs.items() if name == "model" or name in settings}
    lora = {"rank": 2, "alpha": 4, "target_modules": ["q_proj", "up_proj"]}
    common: dict[str, Any] = {"model": "", "precision": "float32", "lora": lora, "optimizer": {"learning_rate": 0.02},
                              "loop": {"checkpoint_seconds": 0}}  # fmt: skip
    run_stage(config(**common, **settings), wanted, run)


@pytest.mark.parametrize("stage", STAGES)
def test_the_adapter_trains_and_the_merged_model_is_published(tmp_path: Path, stage: str) -> None:
    run = stage_run(tmp_path / "out")
    train(tmp_path, stage, run)
    before, after = load_causal_lm(tmp_path / "m").state_dict(), load_causal_lm(run.directory).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith(("q_proj.weight", "up_proj.weight"))}
    tensors = load_file(run.directory / "adapter" / "adapter_model.safetensors")
    name = "model.layers.0.mlp.up_proj"
    low = [tensors[f"base_model.model.{name}.lora_{side}.weight"] for side in "BA"]
    assert torch.allclose(after[f"{name}.weight"], before[f"{name}.weight"] + 2.0 * low[0] @ low[1], atol=1e-6)
    first = read_journal(run.journal.path)[0]
    if stage in ("ppo", "grpo", "rloo"):
        assert first["objective/kl"] == pytest.approx(0, abs=1e-4)  # the reference is the same model, adapter off
        assert read_journal(run.journal.path)[-1]["objective/kl"] != 0
        assert read_journal(run.journal.path)[-1]["objective/logprob_gap"] < 1e-4  # replies are the adapted model's


@pytest.mark.parametrize("stage", ["dpo", "ppo"])
def test_an_interrupted_adapter_ends_with_the_same_bytes(tmp_path: Path, stage: str) -> None:
    whole = stage_run(tmp_path / "whole")
    train(tmp_path, stage, whole)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stage, stage_run(tmp_path / "cut", Interrupter(3 if stage == "dpo" else 5, stage)))
    again = stage_run(tmp_path / "cut")
    train(tmp_path, stage, again)
    assert any("resumed at step" in note for note in again.notes) or stage == "ppo"
    assert tree_bytes(again.directory) == tree_bytes(whole.directory)
    assert tree_bytes(again.directory / "adapter") == tree_bytes(whole.directory / "adapter")
