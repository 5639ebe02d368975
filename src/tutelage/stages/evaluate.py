"""Evaluation: the same held-out items through every model, with intervals, and the same prompts side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch

from tutelage.data.batches import make_batch
from tutelage.data.shards import TokenShard, read_manifest
from tutelage.data.streams import PretrainRows, SequentialRows
from tutelage.errors import DataError, RecipeError
from tutelage.evaluation.harness import Answer, Row, Subject
from tutelage.evaluation.statistics import Estimate, bootstrap_mean, paired_win_rate
from tutelage.evaluation.students import beside_teacher, speeds
from tutelage.evaluation.tasks import FORMAT_TASKS, TASKS, Result, estimated, format_followed, proportion
from tutelage.feedback.rubric import Rubric, is_evasive
from tutelage.generation.sampling import Sampling
from tutelage.model.transformer import CausalLM
from tutelage.run.artifacts import Artifact
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl
from tutelage.stages.configs import EvaluateConfig
from tutelage.stages.models import check_tokens, open_model, run_dtype
from tutelage.stages.prefer import rubric_of
from tutelage.stages.pretrain import row_losses

SPEED_ROWS = 64  # enough to fill the engine's slots


def run(config: EvaluateConfig, inputs: Inputs, run: StageRun) -> None:
    """Write results.json and samples.json."""
    dtype = run_dtype(config.precision, run)
    subjects = [_subject(label, inputs, dtype, config) for label in config.models]
    tasks = _tasks(inputs)
    rubric = rubric_of(config.weights)
    results: list[Result] = []
    judged: dict[str, list[Answer]] = {}
    shown: dict[str, list[Answer]] = {}
    with run.progress("evaluate", len(subjects) * (sum(task in tasks for task in TASKS) + 1)) as bar:
        for subject in subjects:
            results += _measure(subject, tasks, config, bar)
            if "tokens" in inputs:
                check_tokens(inputs["tokens"], subject.tokenizer, inputs[f"models.{subject.label}"])
                results += _held_out(subject.label, subject.model, inputs, run.seed)
            sampled = Sampling(config.max_tokens, config.preference_temperature)
            judged[subject.label] = subject.reply(tasks.get("preference", []), sampled)
            shown[subject.label] = subject.reply(tasks.get("showcase", []), Sampling(config.max_tokens, 0.0))
            bar.advance(1)
    if config.reference is not None:
        results += _against(config.reference, judged, tasks.get("preference", []), rubric, run.seed)
        results += _divergences(config.reference, subjects, judged, run.seed)
        run.notes.extend(cost_of_divergence(config.reference, results))
    if config.teacher is not None:
        teacher = next(subject for subject in subjects if subject.label == config.teacher)
        replies = [answer.completion for answer in judged[config.teacher]]
        results += beside_teacher(teacher, subjects, results, replies, run.seed)
        _time(subjects, tasks.get("preference", []), config, run)
    _write(run, results, _side_by_side(tasks.get("showcase", []), shown))
    for row in results:
        run.metrics[f"{row['model']}/{row['task']}/{row['metric']}"] = row["value"]


def _subject(label: str, inputs: Inputs, dtype: torch.dtype, config: EvaluateConfig) -> Subject:
    for field, named in (("reference", config.reference), ("teacher", config.teacher)):
        if named is not None and named not in config.models:
            raise RecipeError(
                f"{field}: {named!r} is not among models ({', '.join(config.models)})",
                hint="name one of the labels under `models`",
            )
    model, tokenizer = open_model(inputs[f"models.{label}"], dtype)
    return Subject(label, model.eval(), tokenizer)


def _tasks(inputs: Inputs) -> dict[str, list[Row]]:
    given = [artifact for field, artifact in inputs.items() if field.partition(".")[0] == "tasks"]
    for artifact in given:
        _check_tasks(artifact)
    rows = [row for artifact in given for row in read_jsonl(artifact.path / "tasks.jsonl")]
    rows.sort(key=lambda row: str(row["task"]))
    return {task: list(group) for task, group in groupby(rows, key=lambda row: str(row["task"]))}


def _check_tasks(artifact: Artifact) -> None:
    named = {str(row["task"]) for row in read_jsonl(artifact.path / "tasks.jsonl")}
    unknown = sorted(named - set(TASKS) - {"preference", "showcase"})
    if unknown:
        raise DataError(
            f"{artifact.name}: no measure for the task {unknown[0]!r}",
            hint=f"known tasks: {', '.join([*TASKS, 'preference', 'showcase'])}",
        )


def _measure(subject: Subject, tasks: Mapping[str, Sequence[Row]], config: EvaluateConfig, bar: Any) -> list[Result]:
    """Every task's metric, how many refusals are bare, and the format of all chat replies together."""
    results, formats = [], []
    for task in TASKS:
        if task not in tasks:
            continue
        outcome = TASKS[task](subject, tasks[task], Sampling(config.max_tokens, 0.0))
        results.append(proportion(subject.label, task, outcome.metric, outcome.hits))
        results += [proportion(subject.label, task, metric, hits) for metric, hits in outcome.more.items() if hits]
        results += [estimated(subject.label, task, metric, found) for metric, found in outcome.estimates.items()]
        if task in FORMAT_TASKS:
            formats += [format_followed(answer) for answer in outcome.answers or []]
        if task == "harmful":
            evasive = [is_evasive(answer.text) for answer in outcome.answers or []]
            results.append(proportion(subject.label, task, "evasive", evasive))
        bar.advance(1)
    if formats:
        results.append(proportion(subject.label, "format", "followed", formats))
    return results


def _held_out(label: str, model: CausalLM, inputs: Inputs, seed: int) -> list[Result]:
    """Bits a byte of the validation documents, with an interval by resampling packed rows."""
    folder, context = inputs["tokens"].path, model.config.max_position_embeddings
    shard = TokenShard(folder, "validation")
    rows = PretrainRows(shard, context, 0) if read_manifest(folder)["boundaries"] else SequentialRows(shard, context)
    losses: list[float] = []
    for start in range(0, rows.rows_per_epoch, 32):
        losses += row_losses(model, make_batch(rows.rows(start, min(32, rows.rows_per_epoch - start))))
    nats = bootstrap_mean(losses, seed=seed)
    scale = len(losses) / math.log(2) / shard.num_bytes
    bits = Estimate(nats.value * scale, nats.ci_low * scale, nats.ci_high * scale, len(losses))
    return [estimated(label, "heldout", "bits_per_byte", bits)]


def _divergences(
    reference: str, subjects: Sequence[Subject], judged: Mapping[str, Sequence[Answer]], seed: int
) -> list[Result]:
    """KL(model ‖ reference) in nats a reply, estimated on the model's own sampled replies."""
    base = next(subject for subject in subjects if subject.label == reference)
    results = []
    for subject in subjects:
        completions = [answer.completion for answer in judged[subject.label]]
        if subject is base or not completions:
            continue
        gaps = [a - b for a, b in zip(subject.logprobs(completions), base.logprobs(completions), strict=True)]
        results.append(estimated(subject.label, "kl", "nats", bootstrap_mean(gaps, seed=seed)))
    return results


def cost_of_divergence(reference: str, results: Sequence[Result]) -> list[str]:
    """What each model's distance from the reference cost it in facts, in words."""
    value = {(row["model"], row["task"]): row["value"] for row in results}
    notes = []
    for model in (row["model"] for row in results if row["task"] == "kl"):
        costs = [
            f"{words} {value[reference, task]:.1%} → {value[model, task]:.1%}"
            for task, words in (("completion_facts", "facts by completion"), ("chat_facts", "facts in chat"))
            if (reference, task) in value and (model, task) in value
        ]
        if costs:
            notes.append(f"{model}: {value[model, 'kl']:.2f} nats a reply from {reference}; {', '.join(costs)}")
    return notes


def _against(
    reference: str, judged: Mapping[str, Sequence[Answer]], rows: Sequence[Row], rubric: Rubric, seed: int
) -> list[Result]:
    """Win rate by the hidden rubric against the reference on the same prompts, and the rubric's mean score."""
    if not rows:
        return []
    scores = {
        label: [
            rubric.judge(row, answer.text, answer.finished).score for row, answer in zip(rows, answers, strict=True)
        ]
        for label, answers in judged.items()
    }
    results = []
    for label, ours in scores.items():
        win = paired_win_rate(ours, scores[reference])
        results.append(estimated(label, "preference", "win_rate", win))
        results.append(estimated(label, "preference", "rubric_score", bootstrap_mean(ours, seed=seed)))
    return results


def _time(subjects: Sequence[Subject], rows: Sequence[Row], config: EvaluateConfig, run: StageRun) -> None:
    """Speed is a metric of the stage and no result: it differs between equal runs."""
    if rows:
        found = speeds(subjects, rows[:SPEED_ROWS], config.max_tokens)
        run.metrics.update({f"{label}/speed/tokens_per_second": speed for label, speed in found.items()})


def _side_by_side(rows: Sequence[Row], shown: Mapping[str, Sequence[Answer]]) -> list[dict[str, Any]]:
    return [
        {
            "prompt_id": row["id"],
            "kind": row["kind"],
            "prompt": row["messages"],
            "replies": {
                label: {"text": answers[number].text, "finish_reason": "stop" if answers[number].finished else "length"}
                for label, answers in shown.items()
            },
        }
        for number, row in enumerate(rows)
    ]


def _write(run: StageRun, results: Sequence[Result], samples: Sequence[Mapping[str, Any]]) -> None:
    for name, rows in (("results.json", results), ("samples.json", samples)):
        text = json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False)
        (run.directory / name).write_text(text + "\n", encoding="utf-8")
