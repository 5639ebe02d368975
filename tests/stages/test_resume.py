"""Every gradient stage, interrupted and run again with the same scratch, gives the bytes of a run never stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny import (
    Interrupter,
    conversations_artifact,
    journal_without_times,
    model_artifact,
    preferences_artifact,
    prompts_artifact,
    reward_artifact,
    stage_run,
    tokenizer_artifact,
    tokens_artifact,
    tree_bytes,
)
from tutelage.run.artifacts import Artifact
from tutelage.run.stage import StageRun
from tutelage.stages import distill, dpo, grpo, kto, ppo, pretrain, reward, sft
from tutelage.stages.configs import (
    DistillConfig,
    DPOConfig,
    GRPOConfig,
    KTOConfig,
    PPOConfig,
    PretrainConfig,
    RewardConfig,
    SFTConfig,
)

OFTEN = {"checkpoint_seconds": 0, "evaluate_every": 2}
MUON = {"kind": "muon", "learning_rate": 0.01, "muon_learning_rate": 0.02}
ON_POLICY = ("ppo", "grpo")  # taken up only between rollout batches, of two steps each
COMMON: dict[str, Any] = {"loop": OFTEN, "precision": "float32"}
Stage = Callable[[StageRun], None]


def pretrain_stage(inputs: dict[str, Artifact]) -> Stage:
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "tie_word_embeddings": True}
    config = PretrainConfig(tokens="", tokenizer="", model=shape, context=24, num_steps=4, global_batch_tokens=96,
                            micro_batch_tokens=48, optimizer=MUON, **COMMON)  # fmt: skip
    return lambda run: pretrain.run(config, inputs, run)


def sft_stage(inputs: dict[str, Artifact]) -> Stage:
    config = SFTConfig(model="", conversations="", num_steps=4, conversations_a_step=5, replay_rows=2, **COMMON)
    wanted = {"model": inputs["model"], "conversations.0": inputs["conversations"], "replay": inputs["tokens"]}
    return lambda run: sft.run(config, wanted, run)


def reward_stage(inputs: dict[str, Artifact]) -> Stage:
    config = RewardConfig(model="", preferences="", num_steps=4, prompts_a_step=6, micro_batch_prompts=4, **COMMON)
    return lambda run: reward.run(config, inputs, run)


def dpo_stage(inputs: dict[str, Artifact]) -> Stage:
    config = DPOConfig(model="", preferences="", num_steps=4, pairs_a_step=6, sft_coef=0.1, **COMMON)
    return lambda run: dpo.run(config, inputs, run)


def ppo_stage(inputs: dict[str, Artifact]) -> Stage:
    # 5 replies in 2 minibatches of unlike sizes; an adaptive KL coefficient, which only the checkpoint knows
    config = PPOConfig(model="", reward_model="", prompts="", num_rollout_batches=2, rollouts_a_batch=5, num_epochs=1,
                       max_tokens=5, kl_target=0.1, optimizer={"learning_rate": 0.01}, **COMMON)  # fmt: skip
    return lambda run: ppo.run(config, inputs, run)


def grpo_stage(inputs: dict[str, Artifact]) -> Stage:
    config = GRPOConfig(model="", reward_model="", prompts="", rewards={"answer": 1.0}, num_rollout_batches=2,
                        num_minibatches=2, prompts_a_batch=2, num_replies=3, max_tokens=5, kl_target=0.1,
                        optimizer={"learning_rate": 0.01}, **COMMON)  # fmt: skip
    return lambda run: grpo.run(config, inputs, run)


def grpo_of_one_update(inputs: dict[str, Artifact]) -> Stage:
    config = GRPOConfig(model="", reward_model="", prompts="", rewards={"answer": 1.0}, num_rollout_batches=4,
                        prompts_a_batch=2, num_replies=3, max_tokens=5, optimizer={"learning_rate": 0.01},
                        **COMMON)  # fmt: skip
    return lambda run: grpo.run(config, inputs, run)


def kto_stage(inputs: dict[str, Artifact]) -> Stage:
    config = KTOConfig(model="", preferences="", num_steps=4, replies_a_step=6, micro_batch_replies=4, **COMMON)
    return lambda run: kto.run(config, inputs, run)


def distill_stage(inputs: dict[str, Artifact]) -> Stage:
    # half of the steps learn from the student's own replies; text beside all of them
    config = DistillConfig(teacher="", model="", conversations="", tokens="", on_policy=0.5, next_token_share=0.2,
                           num_steps=4, replies_a_step=5, rows_a_step=2, max_tokens=5, top_k=7,
                           optimizer={"learning_rate": 0.01}, **COMMON)  # fmt: skip
    wanted = {"model": inputs["model"], "teacher": inputs["teacher"], "tokens": inputs["tokens"],
              "conversations": inputs["conversations"]}  # fmt: skip
    return lambda run: distill.run(config, wanted, run)


STAGES: dict[str, tuple[Callable[[dict[str, Artifact]], Stage], tuple[int, ...]]] = {
    "pretrain": (pretrain_stage, (1, 2, 3, 4)),
    "sft": (sft_stage, (3,)),
    "reward": (reward_stage, (3,)),
    "dpo": (dpo_stage, (3,)),
    "kto": (kto_stage, (3,)),
    "distill": (distill_stage, (1, 2, 3, 4)),
    "ppo": (ppo_stage, (2, 3)),
    "grpo": (grpo_stage, (3,)),
    "grpo, one update a batch": (grpo_of_one_update, (3,)),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "tokens": tokens_artifact(folder / "tokens"),
        "tokenizer": tokenizer_artifact(folder / "tokenizer"),
        "model": model_artifact(folder / "model"),
        "conversations": conversations_artifact(folder / "conversations"),
        "preferences": preferences_artifact(folder / "preferences"),
        "prompts": prompts_artifact(folder / "prompts"),
        "reward_model": reward_artifact(folder / "reward", seed=1),
        "teacher": model_artifact(folder / "teacher", seed=1, hidden_size=32),
    }


@pytest.mark.parametrize("name", STAGES)
def test_an_interrupted_stage_ends_with_the_same_bytes(tmp_path: Path, name: str, inputs: dict[str, Artifact]) -> None:
    make, stops = STAGES[name]
    stage = make(inputs)
    whole = stage_run(tmp_path / "whole")
    stage(whole)
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            stage(stage_run(tmp_path / f"stop-{stop}", Interrupter(stop, name.split(",")[0])))
        assert not (tmp_path / f"stop-{stop}" / "model.safetensors").exists()
        again = stage_run(tmp_path / f"stop-{stop}")
        stage(again)
        resumed = any("resumed at step" in note for note in again.notes)
        assert resumed == (stop > (2 if name in ON_POLICY else 1)), again.notes
        assert tree_bytes(again.directory) == tree_bytes(whole.directory), f"interrupted at step {stop}"
        assert journal_without_times(again.journal.path) == journal_without_times(whole.journal.path)
    if name in ON_POLICY:
        start = 0.05 if name == "ppo" else 0.04
        assert abs(whole.metrics["objective/kl_coef"] - start) > 1e-6
