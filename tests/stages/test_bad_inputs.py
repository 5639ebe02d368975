"""What a user can get wrong in the stages that train, sample and judge: a clear error, or a note and no harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiny import (
    CONTEXT,
    TEXTS,
    conversations_artifact,
    jsonl_artifact,
    model_artifact,
    preference_rows,
    preferences_artifact,
    prompts_artifact,
    question,
    reward_artifact,
    stage_run,
    tokenizer,
    tokenizer_artifact,
    tokens_artifact,
)
from tutelage.data.tokenizer import TextTokenizer
from tutelage.data.train_tokenizer import train_bpe
from tutelage.errors import DataError, RecipeError, TrainingError, TutelageError
from tutelage.run.artifacts import ArtifactType
from tutelage.stages import dpo, evaluate, ppo, prefer, pretrain, reward, sample, sft
from tutelage.stages.configs import (
    DPOConfig,
    EvaluateConfig,
    PPOConfig,
    PreferConfig,
    PretrainConfig,
    RewardConfig,
    SampleConfig,
    SFTConfig,
)

LONG = [{"role": "user", "content": "Paris " * 100}]
TINY: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


def other_tokenizer() -> TextTokenizer:
    return train_bpe(["Other words give other merges, other words."] * 3, 290)


def finetune(tmp_path: Path, rows: list[dict[str, Any]], own: TextTokenizer | None = None) -> list[str]:
    inputs = {
        "model": model_artifact(tmp_path / "model", own=own),
        "conversations": jsonl_artifact(ArtifactType.CONVERSATIONS, tmp_path / "c" / "conversations.jsonl", rows),
    }
    run = stage_run(tmp_path / "out")
    sft.run(SFTConfig(model="", conversations="", num_steps=1, precision="float32"), inputs, run)
    return run.notes


def chat(*contents: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)]}


def test_conversations_that_cannot_be_learnt_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no conversation has anything to learn from"):
        finetune(tmp_path / "empty", [])
    with pytest.raises(DataError, match=f"longer than the context of {CONTEXT} tokens"):
        finetune(tmp_path / "long", [chat("Hi", "Paris " * 100)])
    with pytest.raises(DataError, match="anything to learn from"):
        finetune(tmp_path / "users only", [chat("Hi")])


def test_some_long_conversations_are_dropped_counted_and_told(tmp_path: Path) -> None:
    notes = finetune(tmp_path, [chat("Hi", "Paris."), chat("Hi", "Paris " * 100)])
    assert any("1 conversations are longer than the context" in note for note in notes)


def test_a_template_that_never_ends_a_turn_is_refused(tmp_path: Path) -> None:
    own = tokenizer()
    template = "{%- for message in messages -%}{{ '<|' + message['role'] + '|>' + message['content'] }}{%- endfor -%}"
    endless = TextTokenizer(own._json, {**own._config, "chat_template": template})
    with pytest.raises(DataError, match=r"end-of-turn token .* would never be trained"):
        finetune(tmp_path, [chat("Hi", "Paris.")], endless)


def test_tokens_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    tokens = tokens_artifact(tmp_path / "tokens", own=other_tokenizer())
    model, run = model_artifact(tmp_path / "model"), stage_run(tmp_path / "out")
    with pytest.raises(TrainingError, match="tokens was not made with the tokenizer of tokenizer"):
        pretrain.run(
            PretrainConfig(tokens="", tokenizer="", model=TINY, precision="float32"),
            {"tokens": tokens, "tokenizer": tokenizer_artifact(tmp_path / "tokenizer")},
            run,
        )
    conversations = conversations_artifact(tmp_path / "c")
    with pytest.raises(TrainingError, match="tokens was not made"):
        sft.run(
            SFTConfig(model="", conversations="", replay="", precision="float32"),
            {"model": model, "conversations": conversations, "replay": tokens},
            run,
        )
    with pytest.raises(TrainingError, match="tokens was not made"):
        evaluate.run(EvaluateConfig(models={"m": ""}, tokens=""), {"models.m": model, "tokens": tokens}, run)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"hidden_size": 18, "num_attention_heads": 2}, "head_dim is 9"),
        ({"hidden_size": 16, "num_attention_heads": 20}, "20 heads are too many"),
        ({"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 3}, "does not divide"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_before_training(tmp_path: Path, shape: Any, message: str) -> None:
    inputs = {"tokens": tokens_artifact(tmp_path / "t"), "tokenizer": tokenizer_artifact(tmp_path / "tokenizer")}
    config = PretrainConfig(tokens="", tokenizer="", model=shape, precision="float32")
    with pytest.raises(RecipeError, match=message):
        pretrain.run(config, inputs, stage_run(tmp_path / "out"))


def test_validation_without_text_is_refused(tmp_path: Path) -> None:
    tokens = tokens_artifact(tmp_path / "t", TEXTS[:2])  # none of them falls to validation
    inputs = {"tokens": tokens, "tokenizer": tokenizer_artifact(tmp_path / "tokenizer")}
    config = PretrainConfig(tokens="", tokenizer="", model=TINY, precision="float32")
    with pytest.raises(DataError, match="validation split"):
        pretrain.run(config, inputs, stage_run(tmp_path / "out"))


def draw(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    prompts = jsonl_artifact(ArtifactType.PROMPTS, tmp_path / "p" / "prompts.jsonl", rows)
    inputs = {"model": model_artifact(tmp_path / "model"), "prompts": prompts}
    sample.run(SampleConfig(model="", prompts=""), inputs, stage_run(tmp_path / "out"))


def test_prompts_that_cannot_be_replied_to(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no prompts"):
        draw(tmp_path / "empty", [])
    with pytest.raises(DataError, match=f"the model's context is {CONTEXT} tokens") as caught:
        draw(tmp_path / "long", [{"id": "x", "messages": LONG, "kind": "chat"}])
    assert "shorten the prompt" in caught.value.hint


def test_a_criterion_that_there_is_not_is_refused_with_the_nearest(tmp_path: Path) -> None:
    empty = jsonl_artifact(ArtifactType.COMPLETIONS, tmp_path / "c" / "completions.jsonl", [])
    config = PreferConfig(completions="", weights={"refuse_harm": 9})
    with pytest.raises(RecipeError, match=r"weights\.refuse_harm: there is no such .* refuses_harm"):
        prefer.run(config, {"completions": empty}, stage_run(tmp_path / "out"))


def test_replies_that_do_not_differ_give_nothing_to_prefer(tmp_path: Path) -> None:
    row = {"prompt_id": "a", "prompt": question("France"), "kind": "fact", "answer": "Paris", "meta": {}}
    rows = [{**row, "completion": text, "finish_reason": "stop"} for text in ("Rome.", "Rome.", "Oslo.")]
    inputs = {"completions": jsonl_artifact(ArtifactType.COMPLETIONS, tmp_path / "c" / "completions.jsonl", rows)}
    with pytest.raises(DataError, match="nothing to prefer"):
        prefer.run(PreferConfig(completions=""), inputs, stage_run(tmp_path / "out"))


def train_pairs(tmp_path: Path, stage: str, rows: list[dict[str, Any]]) -> list[str]:
    inputs = {
        "model": model_artifact(tmp_path / "model"),
        "preferences": jsonl_artifact(ArtifactType.PREFERENCES, tmp_path / "p" / "preferences.jsonl", rows),
    }
    run = stage_run(tmp_path / "out")
    common: dict[str, Any] = {"model": "", "preferences": "", "num_steps": 1, "precision": "float32"}
    if stage == "dpo":
        dpo.run(DPOConfig(**common), inputs, run)
    else:
        reward.run(RewardConfig(**common), inputs, run)
    return run.notes


@pytest.mark.parametrize("stage", ["reward", "dpo"])
def test_pairs_that_state_no_preference_or_do_not_fit(tmp_path: Path, stage: str) -> None:
    good = preference_rows()
    equal = {**good[0], "rejected": good[0]["chosen"]}
    empty = {**good[1], "rejected": " "}
    long = {**good[2], "chosen": "Paris " * 100}
    notes = train_pairs(tmp_path / "some", stage, [*good, equal, empty, long])
    assert any("2 pairs have an empty side or two equal ones" in note for note in notes)
    assert any(f"1 pairs are longer than the context of {CONTEXT}" in note for note in notes)
    with pytest.raises(DataError, match=r"no preference pair is left to train on: 1 are longer .* 2 state no"):
        train_pairs(tmp_path / "none", stage, [equal, empty, long])
    with pytest.raises(DataError, match="no preference pair is left"):
        train_pairs(tmp_path / "empty", stage, [])


def reinforce(tmp_path: Path, own: TextTokenizer | None = None, **changes: Any) -> None:
    prompts = prompts_artifact(tmp_path / "prompts")
    if changes.pop("no_prompts", False):
        prompts = jsonl_artifact(ArtifactType.PROMPTS, tmp_path / "none" / "prompts.jsonl", [])
    inputs = {
        "model": model_artifact(tmp_path / "model"),
        "reward_model": reward_artifact(tmp_path / "reward", own=own),
        "prompts": prompts,
    }
    config: dict[str, Any] = {"num_rollout_batches": 1, "rollouts_a_batch": 4, "max_tokens": 4, **changes}
    ppo.run(PPOConfig(model="", reward_model="", prompts="", precision="float32", **config), inputs,
            stage_run(tmp_path / "out"))  # fmt: skip


def test_what_ppo_refuses(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="reward and model have different tokenizers"):
        reinforce(tmp_path / "a", other_tokenizer())
    with pytest.raises(DataError, match=f"leaves room for max_tokens = 45 in a context of {CONTEXT}"):
        reinforce(tmp_path / "b", max_tokens=45)
    with pytest.raises(DataError, match="has no prompts"):
        reinforce(tmp_path / "c", no_prompts=True)
    with pytest.raises(RecipeError, match="5 minibatches"):
        reinforce(tmp_path / "d", num_minibatches=5)


def test_what_evaluation_refuses(tmp_path: Path) -> None:
    model, run = model_artifact(tmp_path / "model"), stage_run(tmp_path / "out")
    with pytest.raises(RecipeError, match="'other' is not among models"):
        evaluate.run(EvaluateConfig(models={"m": ""}, reference="other"), {"models.m": model}, run)
    rows = [{"id": "1", "task": "sums", "kind": "x"}]
    tasks = jsonl_artifact(ArtifactType.TASKS, tmp_path / "t" / "tasks.jsonl", rows)
    with pytest.raises(DataError, match="no measure for the task 'sums'"):
        evaluate.run(EvaluateConfig(models={"m": ""}, tasks=""), {"models.m": model, "tasks": tasks}, run)


def test_all_of_them_are_printed_with_what_to_do_next(tmp_path: Path) -> None:
    with pytest.raises(TutelageError) as caught:
        train_pairs(tmp_path, "dpo", [])
    assert "\n  → " in str(caught.value)


def test_preferences_artifact_is_usable(tmp_path: Path) -> None:
    inputs = {"model": model_artifact(tmp_path / "m"), "preferences": preferences_artifact(tmp_path / "p")}
    run = stage_run(tmp_path / "out")
    reward.run(RewardConfig(model="", preferences="", num_steps=2, precision="float32"), inputs, run)
    assert 0 <= run.metrics["validation/accuracy"] <= 1
    assert "validation/clean_accuracy" in run.metrics
