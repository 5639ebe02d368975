"""What is said of a student beside its teacher, against computing it reply by reply."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tiny import CITIES, jsonl_artifact, model, model_artifact, question, stage_run, tokenizer
from tutelage.data.completions import Completion, completion_of
from tutelage.data.train_tokenizer import train_bpe
from tutelage.errors import RecipeError
from tutelage.evaluation import students
from tutelage.evaluation.harness import Subject
from tutelage.evaluation.students import agreement, beside_teacher
from tutelage.evaluation.tasks import Result, proportion
from tutelage.model.transformer import CausalLM
from tutelage.run.artifacts import ArtifactType
from tutelage.stages import evaluate
from tutelage.stages.configs import EvaluateConfig

REPLIES = [completion_of(tokenizer(), question(country), f"{city}, {city}.") for country, city in CITIES.items()]


def slow(teacher: CausalLM, student: CausalLM, reply: Completion) -> tuple[float, float]:
    ids = torch.tensor([reply.ids])
    theirs, ours = (net(ids)[0, reply.num_prompt - 1 : -1].detach().log_softmax(-1) for net in (teacher, student))
    same = (theirs.argmax(-1) == ours.argmax(-1)).float().mean()
    return float(same), float((theirs.exp() * (theirs - ours)).sum(-1).mean())


def test_agreement_is_a_mean_of_every_reply_whatever_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student = model(0), model(1, hidden_size=24)
    for most in (1, 60, 10_000):
        monkeypatch.setattr(students, "FORWARD_TOKENS", most)
        shares, nats = agreement(teacher, student, REPLIES, tokenizer().pad_id)
        wanted = [slow(teacher, student, reply) for reply in REPLIES]
        assert list(zip(shares, nats, strict=True)) == [pytest.approx(pair, abs=1e-4) for pair in wanted]
    shares, nats = agreement(teacher, teacher, REPLIES, tokenizer().pad_id)
    assert shares == [1.0] * len(REPLIES)
    assert max(map(abs, nats)) < 1e-5


def test_what_is_kept_is_a_share_of_the_teachers_right_answers_and_others_tokens_are_not_compared() -> None:
    foreign = train_bpe(["Other words give other merges."] * 3, 290)
    subjects = [Subject("teacher", model(0, tie_word_embeddings=True), tokenizer()),
                Subject("student", model(1, num_hidden_layers=1), tokenizer()),
                Subject("foreign", model(2, vocab_size=290), foreign)]  # fmt: skip
    hits = {"teacher": (9, 1), "student": (6, 2), "foreign": (0, 0)}
    results: list[Result] = []
    for label, (first, second) in hits.items():
        results.append(proportion(label, "chat_facts", "accuracy", [True] * first + [False] * (10 - first)))
        results.append(proportion(label, "code", "accuracy", [True] * second + [False] * (5 - second)))
        results.append(proportion(label, "harmful", "refusal_rate", [True]))
    rows = beside_teacher(subjects[0], subjects, results, REPLIES, seed=0)
    value = {(row["model"], row["task"], row["metric"]): row["value"] for row in rows}
    assert value["teacher", "score", "accuracy"] == pytest.approx(10 / 15)
    assert value["student", "score", "kept_share"] == pytest.approx(8 / 10)
    assert value["teacher", "size", "teacher_share"] == 1
    assert value["teacher", "size", "parameters"] == sum(p.numel() for p in subjects[0].model.parameters())
    assert value["student", "teacher", "nats"] > 0
    compared = {label for label, task, _ in value if task == "teacher"}
    assert compared == {"student"}
    for row in rows:
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
        assert math.isfinite(row["value"])


def test_the_stage_measures_speed_beside_the_results_and_gives_the_same_bytes_again(tmp_path: Path) -> None:
    rows = [{"id": c, "task": task, "kind": "fact", "messages": question(c), "answer": city}
            for c, city in CITIES.items() for task in ("chat_facts", "preference")]  # fmt: skip
    inputs = {
        "models.teacher": model_artifact(tmp_path / "t"),
        "models.student": model_artifact(tmp_path / "s", seed=1),
        "tasks": jsonl_artifact(ArtifactType.TASKS, tmp_path / "tasks" / "tasks.jsonl", rows),
    }
    config = EvaluateConfig(models=dict.fromkeys(("teacher", "student"), ""), teacher="teacher", max_tokens=4)
    runs = [stage_run(tmp_path / name) for name in ("first", "second")]
    for run in runs:
        evaluate.run(config, inputs, run)
        assert min(run.metrics[f"{label}/speed/tokens_per_second"] for label in ("teacher", "student")) > 0
    first, second = ((run.directory / "results.json").read_bytes() for run in runs)
    assert first == second
    assert runs[0].metrics["student/teacher/nats"] > 0
    with pytest.raises(RecipeError, match="teacher: 'other' is not among models"):
        evaluate.run(EvaluateConfig(models={"student": ""}, teacher="other"), inputs, stage_run(tmp_path / "no"))
