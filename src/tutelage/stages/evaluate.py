"""Evaluation: the same held-out items through every model, with intervals, and the same prompts side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from tutelage.data.batches import make_batch
from tutelage.data.shards import TokenShard, read_manifest
from tutelage.data.streams import PretrainRows, SequentialRows
from tutelage.errors import DataError, RecipeError
from tutelage.evaluation.beside_reference import cost_of_divergence, divergences, win_rates
from tutelage.evaluation.canary_tasks import leaked
from tutelage.evaluation.harness import Answer, Measured, Row, Subject, completions_of
from tutelage.evaluation.remote_subject import RemoteSubject, Skipped
from tutelage.evaluation.statistics import Estimate, bootstrap_mean
from tutelage.evaluation.students import beside_teacher, speeds
from tutelage.evaluation.tasks import FORMAT_TASKS, TASKS, Result, estimated, format_followed, proportion
from tutelage.feedback.rubric import is_evasive
from tutelage.generation.memory import Memory
from tutelage.generation.remote import RemoteEngine
from tutelage.generation.sampling import Sampling
from tutelage.generation.server import Server
from tutelage.model.transformer import CausalLM
from tutelage.run.artifacts import Artifact
from tutelage.run.stage import Inputs, ProgressBar, StageRun
from tutelage.sources.store import read_jsonl
from tutelage.stages.configs import EvaluateConfig
from tutelage.stages.models import check_tokens, open_model, run_dtype
from tutelage.stages.prefer import rubric_of
from tutelage.stages.pretrain import row_losses

SPEED_ROWS = 64  # enough to fill the engine's slots


def run(config: EvaluateConfig, inputs: Inputs, run: StageRun) -> None:
    """Write results.json and samples.json."""
    own, remote = _subjects(config, inputs, run)
    subjects: list[Measured] = [*own, *remote]
    tasks = _tasks(inputs)
    results: list[Result] = []
    judged: dict[str, list[Answer]] = {}
    shown: dict[str, list[Answer]] = {}
    with run.progress("evaluate", len(subjects) * (sum(task in tasks for task in TASKS) + 1)) as bar:
        for subject in subjects:
            skipped = Skipped(subject.label)
            results += _measure(subject, tasks, config, bar, skipped)
            if "tokens" in inputs and isinstance(subject, Subject):
                check_tokens(inputs["tokens"], subject.tokenizer, inputs[f"models.{subject.label}"])
                results += _held_out(subject.label, subject.model, inputs, run.seed)
            sampled, greedy = Sampling(config.max_tokens, config.preference_temperature), Sampling(config.max_tokens, 0)
            for task, sampling, found in (("preference", sampled, judged), ("showcase", greedy, shown)):
                with skipped.if_not_offered(task):
                    found[subject.label] = []
                    found[subject.label] = subject.reply(tasks.get(task, []), sampling) if task in tasks else []
            run.notes += skipped.notes
            bar.advance(1)
    if config.reference is not None:
        results += win_rates(config.reference, judged, tasks.get("preference", []), rubric_of(config.weights), run.seed)
        results += divergences(config.reference, own, judged, run.seed)
        run.notes.extend(cost_of_divergence(config.reference, results))
    if config.teacher is not None:
        teacher = next(subject for subject in own if subject.label == config.teacher)
        results += beside_teacher(teacher, own, results, completions_of(judged[config.teacher]), run.seed)
        _time(own, tasks.get("preference", []), config, run)
    run.notes += [*_left_out(config, remote, inputs), *(subject.repeated for subject in remote if subject.repeated)]
    _write(run, results, _side_by_side(tasks.get("showcase", []), shown))
    for row in results:
        run.metrics[f"{row['model']}/{row['task']}/{row['metric']}"] = row["value"]


def _subjects(config: EvaluateConfig, inputs: Inputs, run: StageRun) -> tuple[list[Subject], list[RemoteSubject]]:
    """Models of ours, and those that servers have."""
    known = [*config.models, *config.engines]
    for field, named, labels in (("reference", config.reference, known), ("teacher", config.teacher, [*config.models])):
        if named is not None and named not in labels:
            raise RecipeError(
                f"{field}: {named!r} is not among models ({', '.join(labels)})",
                hint="name one of the labels under `models`",
            )
    dtype = run_dtype(config.precision, run)
    own = []
    for label in config.models:
        model, tokenizer = open_model(inputs[f"models.{label}"], dtype)
        own.append(Subject(label, model.eval(), tokenizer))
    remote: list[RemoteSubject] = []
    for label, settings in config.engines.items():
        memory = Memory(run.scratch / f"answers-{len(remote)}.jsonl")
        if memory:
            run.notes.append(f"{label}: went on after {len(memory)} answers")
        server = Server(**settings.model_dump(exclude={"n"}))
        remote.append(RemoteSubject(label, RemoteEngine(server, memory)))
    return own, remote


def _left_out(config: EvaluateConfig, remote: Sequence[RemoteSubject], inputs: Inputs) -> list[str]:
    """What is not measured of a model that a server has, since its tokens or weights would be needed."""
    missing = [
        *(["bits a byte"] if "tokens" in inputs else []),
        *(["KL from the reference"] if config.reference is not None else []),
        *(["what it has of its teacher"] if config.teacher is not None else []),
    ]
    labels = ", ".join(subject.label for subject in remote)
    return [f"{labels}: without {', '.join(missing)}, for which the weights are needed"] if remote and missing else []


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


def _measure(
    subject: Measured, tasks: Mapping[str, Sequence[Row]], config: EvaluateConfig, bar: ProgressBar, skipped: Skipped
) -> list[Result]:
    """Every task's metric, how many refusals are bare, and the format of all chat replies together."""
    results, formats, leaks = [], [], []
    for task in [task for task in TASKS if task in tasks]:
        outcome = None
        with skipped.if_not_offered(task):
            outcome = TASKS[task](subject, tasks[task], Sampling(config.max_tokens, 0.0))
        bar.advance(1)
        if outcome is None:
            continue
        results.append(proportion(subject.label, task, outcome.metric, outcome.hits))
        results += [proportion(subject.label, task, metric, hits) for metric, hits in outcome.more.items() if hits]
        results += [estimated(subject.label, task, metric, found) for metric, found in outcome.estimates.items()]
        if task in FORMAT_TASKS:
            formats += [format_followed(answer) for answer in outcome.answers or []]
            leaks += leaked(outcome.answers or [], tasks[task])
        if task == "harmful":
            evasive = [is_evasive(answer.text) for answer in outcome.answers or []]
            results.append(proportion(subject.label, task, "evasive", evasive))
    if formats:
        results.append(proportion(subject.label, "format", "followed", formats))
        results.append(proportion(subject.label, "format", "pii_rate", leaks))
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
                if answers
            },
        }
        for number, row in enumerate(rows)
    ]


def _write(run: StageRun, results: Sequence[Result], samples: Sequence[Mapping[str, Any]]) -> None:
    for name, rows in (("results.json", results), ("samples.json", samples)):
        text = json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False)
        (run.directory / name).write_text(text + "\n", encoding="utf-8")
