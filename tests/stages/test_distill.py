"""Distillation: the loss is that of all logits, the teacher is asked once, and without it nothing is different."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tiny import (
    CITIES,
    CONTEXT,
    Interrupter,
    conversations_artifact,
    jsonl_artifact,
    model,
    model_artifact,
    question,
    stage_run,
    tokenizer,
    tokenizer_artifact,
    tokens_artifact,
    tree_bytes,
)
from tutelage.data.batches import Batch
from tutelage.data.completions import prompt_ids
from tutelage.data.passages import passages
from tutelage.data.shards import TokenShard
from tutelage.data.template import render
from tutelage.data.tokenizer import TextTokenizer
from tutelage.data.train_tokenizer import train_bpe
from tutelage.errors import DataError, RecipeError, TrainingError
from tutelage.evaluation.harness import Subject
from tutelage.generation.sampling import Sampling
from tutelage.model.hub import load_causal_lm, save_model
from tutelage.model.top_logprobs import Tops
from tutelage.objectives.distill import distillation_loss
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.journal import read_journal
from tutelage.run.stage import StageRun
from tutelage.sources.store import read_jsonl
from tutelage.stages import distill, pretrain, sft
from tutelage.stages.configs import DistillConfig, PretrainConfig, SFTConfig
from tutelage.stages.distillation import teacher as module
from tutelage.stages.distillation.on_policy import prompt_of

SHAPE: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
F32: dict[str, Any] = {"precision": "float32"}


def inputs_in(folder: Path) -> dict[str, Artifact]:
    return {
        "teacher": model_artifact(folder / "teacher", seed=1, hidden_size=32, num_attention_heads=4),
        "model": model_artifact(folder / "student"),
        "conversations": conversations_artifact(folder / "c"),
    }


def trained(run: StageRun, inputs: dict[str, Artifact], **settings: Any) -> StageRun:
    """One of `conversations`, `completions` and `tokens`, and what else is in the inputs, is what the stage is told."""
    config = DistillConfig(**{**dict.fromkeys(inputs, ""), **F32, **settings})
    distill.run(config, inputs, run)
    return run


def curve(run: StageRun, metric: str) -> list[float]:
    return [row[metric] for row in read_journal(run.journal.path) if metric in row]


def taught(folder: Path) -> Artifact:
    """A teacher that knows its capitals."""
    inputs = {"model": model_artifact(folder / "begin", hidden_size=32, num_attention_heads=4),
              "conversations": conversations_artifact(folder / "c")}  # fmt: skip
    config = SFTConfig(model="", conversations="", num_steps=60, conversations_a_step=12, **F32,
                       optimizer={"learning_rate": 0.01, "decay_share": 0.5})  # fmt: skip
    sft.run(config, inputs, stage_run(folder / "teacher"))
    return Artifact("teacher", ArtifactType.MODEL, folder / "teacher", "a teacher that knows")


@pytest.mark.parametrize(
    ("objective", "beta", "temperature"), [("forward", 0.0, 1.0), ("reverse", 1.0, 2.0), ("jsd", 0.3, 0.5)]
)
def test_with_the_whole_vocabulary_the_loss_is_that_of_all_logits(
    tmp_path: Path, objective: str, beta: float, temperature: float
) -> None:
    inputs = inputs_in(tmp_path)
    settings = {"objective": objective, "temperature": temperature, "num_steps": 1, "validation_share": 0}
    if objective == "jsd":
        settings["beta"] = beta
    teacher, student = (load_causal_lm(inputs[name].path) for name in ("teacher", "model"))
    total = count = 0.0
    for country, city in CITIES.items():
        text = render(tokenizer(), [*question(country), {"role": "assistant", "content": f"{city}."}])
        ids, mask = torch.tensor([text.ids]), torch.tensor([text.loss_mask])
        loss = distillation_loss(student(ids)[:, :-1], teacher(ids)[:, :-1], mask[:, 1:], beta=beta,
                                 temperature=temperature)  # fmt: skip
        total, count = total + float(loss.loss_sum.detach()), count + float(loss.count)
    whole = trained(stage_run(tmp_path / "whole"), inputs, top_k=tokenizer().vocab_size, **settings)
    assert whole.metrics["train/loss"] == pytest.approx(total / count, rel=1e-4)
    assert whole.metrics["teacher/rest_mass"] == 0
    tops = trained(stage_run(tmp_path / "tops"), inputs, top_k=3, **settings)
    assert 0 < tops.metrics["train/loss"] < whole.metrics["train/loss"]
    assert any("raise top_k" in note for note in tops.notes)


def test_without_the_teacher_it_is_the_student_of_fine_tuning_and_of_pretraining(tmp_path: Path) -> None:
    inputs = inputs_in(tmp_path)
    plain = sft.run, SFTConfig(model="", conversations="", num_steps=3, conversations_a_step=5, **F32)
    plain[0](plain[1], {name: inputs[name] for name in ("model", "conversations")}, stage_run(tmp_path / "sft"))
    same = trained(stage_run(tmp_path / "out"), inputs, num_steps=3, replies_a_step=5, next_token_share=1.0)
    assert tree_bytes(same.directory) == tree_bytes(tmp_path / "sft")

    inputs = {"tokens": tokens_artifact(tmp_path / "tokens"), "tokenizer": tokenizer_artifact(tmp_path / "tokenizer")}
    rate = {"kind": "muon", "learning_rate": 0.01}
    config = PretrainConfig(tokens="", tokenizer="", model=SHAPE, context=24, num_steps=4, global_batch_tokens=72,
                            optimizer=rate, **F32)  # fmt: skip
    first = stage_run(tmp_path / "pretrain")
    pretrain.run(config, inputs, first)
    inputs["teacher"] = model_artifact(tmp_path / "other")
    settings = {"shape": SHAPE, "context": 24, "num_steps": 4, "rows_a_step": 3, "next_token_share": 1.0}
    second = trained(stage_run(tmp_path / "begun"), inputs, optimizer={**config.optimizer.model_dump()}, **settings)
    assert tree_bytes(second.directory) == tree_bytes(first.directory)
    for metric in ("validation/loss", "validation/bits_per_byte"):
        assert second.metrics[metric] == first.metrics[metric]
    assert not (tmp_path / module.CACHE).exists()


def test_the_teacher_is_asked_once_whatever_the_epochs_and_again_only_if_it_would_say_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {**inputs_in(tmp_path), "tokens": tokens_artifact(tmp_path / "tokens")}
    settings: dict[str, Any] = {"epochs": 3, "replies_a_step": 6, "rows_a_step": 2, "top_k": 4}
    asked: list[int] = []
    ask = module.Teacher.tops

    def counted(own: module.Teacher, rows: Batch) -> Tops:
        asked.append(rows.num_targets)
        return ask(own, rows)

    monkeypatch.setattr(module.Teacher, "tops", counted)
    first = trained(stage_run(tmp_path / "first"), inputs, **settings)
    said = [render(tokenizer(), row["messages"]) for row in read_jsonl(tmp_path / "c" / "conversations.jsonl")]
    text = TokenShard(tmp_path / "tokens", "train")
    once = sum(row.num_trained for row in said) + text.num_tokens - len(text)
    assert sum(asked) == once
    asked.clear()
    again = trained(stage_run(tmp_path / "again"), inputs, **settings)
    assert asked == []
    assert tree_bytes(again.directory) == tree_bytes(first.directory)
    trained(stage_run(tmp_path / "warmer"), inputs, temperature=2.0, **settings)
    assert sum(asked) == once


def test_killed_while_the_teacher_is_asked_it_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_in(tmp_path)
    monkeypatch.setattr(module, "PART_TOKENS", 60)
    settings: dict[str, Any] = {"num_steps": 2, "replies_a_step": 7, "top_k": 4}
    whole = trained(stage_run(tmp_path / "a" / "out"), inputs, **settings)
    with pytest.raises(KeyboardInterrupt):
        trained(stage_run(tmp_path / "b" / "out", Interrupter(1, "teacher")), inputs, **settings)
    found = {path: path.stat().st_mtime_ns for path in (tmp_path / "b" / module.CACHE).iterdir()}
    every = {path.name for path in (tmp_path / "a" / module.CACHE).iterdir()}
    assert 0 < len(found) < len(every)
    again = trained(stage_run(tmp_path / "b" / "out"), inputs, **settings)
    assert {path: path.stat().st_mtime_ns for path in found} == found
    assert {path.name for path in (tmp_path / "b" / module.CACHE).iterdir()} == every
    assert tree_bytes(again.directory) == tree_bytes(whole.directory)


@pytest.mark.parametrize(
    "settings", [{}, {"objective": "jsd", "on_policy": 0.5}, {"objective": "reverse", "beta": 0.1}]
)
def test_a_smaller_student_comes_to_say_what_its_teacher_says(tmp_path: Path, settings: dict[str, Any]) -> None:
    inputs = {"teacher": taught(tmp_path), "conversations": conversations_artifact(tmp_path / "c")}
    run = trained(stage_run(tmp_path / "out"), inputs, shape={**SHAPE, "hidden_size": 24}, num_steps=80,
                  replies_a_step=12, max_tokens=8, optimizer={"learning_rate": 0.02}, **settings)  # fmt: skip
    subject = Subject("m", load_causal_lm(tmp_path / "out"), tokenizer())
    answers = subject.reply([{"id": c, "messages": question(c)} for c in CITIES], Sampling(10, 0.0))
    assert [answer.text for answer in answers] == [f"{city}." for city in CITIES.values()]
    assert all(answer.finished for answer in answers)
    assert run.metrics["num_parameters"] < sum(p.numel() for p in load_causal_lm(tmp_path / "teacher").parameters())
    assert curve(run, "distill/agreement")[-1] > 0.95
    own = curve(run, "own/divergence")
    assert len(own) == 80 * settings.get("on_policy", 0)
    if own:
        assert sum(own[-5:]) < 0.2 * sum(own[:5])


def test_own_replies_are_to_the_prompts_of_the_last_replies() -> None:
    messages = [*question("France"), {"role": "assistant", "content": "Paris."}, *question("Peru")]
    texts = passages([render(tokenizer(), [*messages, {"role": "assistant", "content": "Lima."}])])
    assert prompt_of(texts, 0) == prompt_ids(tokenizer(), messages)


def completions_artifact(folder: Path) -> Artifact:
    rows = [
        {"prompt": question("France"), "completion": "Paris.", "finish_reason": "stop"},
        {"prompt": question("Peru"), "completion": "Lima or", "finish_reason": "length"},
        {"prompt": question("Peru"), "completion": "", "finish_reason": "length"},
        {"prompt": question("Peru"), "completion": "Lima " * 90, "finish_reason": "stop"},
    ]
    return jsonl_artifact(ArtifactType.COMPLETIONS, folder / "completions.jsonl", rows)


def test_completions_are_learnt_with_their_end_only_if_they_ended(tmp_path: Path) -> None:
    inputs = inputs_in(tmp_path)
    inputs["completions"] = completions_artifact(tmp_path / "said")
    del inputs["conversations"]
    run = trained(stage_run(tmp_path / "out"), inputs, num_steps=1, next_token_share=1.0)
    assert any(note.startswith("2 completions are empty, or longer") for note in run.notes)
    ended = render(tokenizer(), [*question("France"), {"role": "assistant", "content": "Paris."}])
    cut = render(tokenizer(), [*question("Peru"), {"role": "assistant", "content": "Lima or"}])
    student, nats = load_causal_lm(inputs["model"].path), 0.0
    ends = [len(cut.ids) - 1 - cut.loss_mask[::-1].index(True), len(ended.ids)]
    for text, end in zip((cut, ended), ends, strict=True):
        ids, mask = torch.tensor([text.ids[:end]]), torch.tensor(text.loss_mask[:end])[1:]
        logprobs = student(ids)[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).squeeze(1)
        nats -= float(logprobs[mask].sum().detach())
    assert run.metrics["train/loss"] == pytest.approx(nats / (ended.num_trained + cut.num_trained - 1), rel=1e-4)


def other_tokenizer() -> TextTokenizer:
    return train_bpe(["Other words give other merges, other words."] * 3, 290)


def test_other_tokens_can_be_learnt_from_at_the_level_of_words_alone(tmp_path: Path) -> None:
    inputs = inputs_in(tmp_path)
    inputs["teacher"] = model_artifact(tmp_path / "foreign", own=other_tokenizer())
    with pytest.raises(TrainingError, match=r"foreign has another tokenizer than student \(284 and 300") as error:
        trained(stage_run(tmp_path / "out"), inputs, num_steps=1)
    assert "let it reply with `sample`" in str(error.value.hint)
    inputs["completions"] = completions_artifact(tmp_path / "said")
    run = trained(stage_run(tmp_path / "out"), inputs, num_steps=1, next_token_share=1.0)
    assert any("from words alone (sequence level)" in note for note in run.notes)


def test_what_does_not_fit_is_refused_before_the_teacher_is_asked(tmp_path: Path) -> None:
    inputs = inputs_in(tmp_path)
    inputs["teacher"] = model_artifact(tmp_path / "short", max_position_embeddings=CONTEXT - 8)
    with pytest.raises(RecipeError, match=f"context: {CONTEXT} tokens are more than the {CONTEXT - 8} that short"):
        trained(stage_run(tmp_path / "out"), inputs, num_steps=1, context=CONTEXT)
    tokenizer().save(tmp_path / "wide")
    save_model(model(vocab_size=304), tmp_path / "wide")
    inputs["teacher"] = Artifact("wide", ArtifactType.MODEL, tmp_path / "wide", "wide")
    with pytest.raises(TrainingError, match="wide has an output head of 304 rows, student one of 300"):
        trained(stage_run(tmp_path / "out"), inputs, num_steps=1)
    del inputs["model"]
    trained(stage_run(tmp_path / "begun"), inputs, num_steps=1, shape=SHAPE)
    assert load_causal_lm(tmp_path / "begun").config.vocab_size == 304
    inputs = {**inputs_in(tmp_path), "completions": completions_artifact(tmp_path / "said")}
    del inputs["conversations"]
    with pytest.raises(DataError, match="said: of 4 completions none has a token to learn and fits into 4 tokens"):
        trained(stage_run(tmp_path / "out"), inputs, num_steps=1, context=4)
    assert not (tmp_path / module.CACHE).exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"teacher": "t", "tokens": "x"}, "no student"),
        ({"teacher": "t", "model": "m"}, "nothing to learn from"),
        ({"teacher": "t", "model": "m", "shape": SHAPE, "tokens": "x"}, "`shape` is for a student that begins"),
        ({"teacher": "t", "shape": SHAPE, "lora": {}, "tokens": "x"}, "`lora` adapts a model that is there"),
        ({"teacher": "t", "model": "m", "tokens": "x", "on_policy": 0.5}, "`on_policy` needs prompts"),
        ({"teacher": "t", "model": "m", "completions": "x", "on_policy": 0.5, "next_token_share": 1}, "is asked"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DistillConfig(**settings)
