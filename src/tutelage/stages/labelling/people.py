"""People prefer: items go into the store, the stage waits for the labels, the labels become pairs."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.errors import DataError
from tutelage.labels.convert import Split, preference_rows
from tutelage.labels.records import Label, NewItem
from tutelage.labels.service import Labels
from tutelage.labels.summary import Statistics, statistics_of
from tutelage.labels.tasks import page_of
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.stages.configs import PreferConfig
from tutelage.stages.labelling.items import items_of
from tutelage.stages.sample import request_seed
from tutelage.store.engine import opened, store_url

POLL = 0.5  # seconds between two looks at the store
_SURE = 0.01  # a position bias less likely than this by chance is said


def collect(config: PreferConfig, inputs: Inputs, run: StageRun) -> None:
    """Offer the items, wait, and write what people said. A killed wait goes on: all that it needs is in the store."""
    completions = list(read_jsonl(inputs["completions"].path / "completions.jsonl"))
    items = items_of(config, completions, inputs, run)
    if not items:
        raise DataError(
            "no prompt has two replies that differ, so there is nothing to prefer",
            hint="sample more replies at a higher temperature, or look at `kinds`",
        )
    folder = run.directory.parent
    with opened(store_url(folder)) as store:
        labels = Labels(store)
        task = task_name(folder.resolve().name, inputs, run)
        _offer(labels, task, items, config, run)
        run.scratch.mkdir(parents=True, exist_ok=True)
        (run.scratch / "task.json").write_text(json.dumps({"task": task}) + "\n", encoding="utf-8")
        run.say(
            f"  people prefer: `tutelage serve --ui {folder}`, then http://127.0.0.1:8000{page_of(task)}; "
            f"or `tutelage label import {folder} FILE`"
        )
        _wait(labels, task, run)
        found = [label for label in labels.labels(task) if label.annotator_kind == "person"]
        _write(found, split_of_prompts(completions, config.validation_share), run)
        _measure(found, statistics_of(found, labels.progress(task)), run)


def task_name(folder: str, inputs: Inputs, run: StageRun) -> str:
    """The same for the same replies (and reward model): labels given to others are not taken for these."""
    given = [inputs[name].fingerprint for name in ("completions", "people.active") if name in inputs]
    return f"{folder}/{run.name}:{hashlib.sha256(json.dumps(given).encode()).hexdigest()[:8]}"


def _offer(labels: Labels, task: str, items: Sequence[NewItem], config: PreferConfig, run: StageRun) -> None:
    people, places = config.people, sum(item.annotators_wanted for item in items)
    if people.labels is not None and people.labels > places:
        raise DataError(
            f"people.labels: {people.labels} labels are asked for, and {len(items)} items ask for {places}",
            hint="ask for fewer, sample replies to more prompts, or raise overlap_share",
        )
    labels.make_task(task, seed=run.seed, repeat_share=people.repeat_share, labels_wanted=people.labels)
    labels.set_guideline(task, people.guideline)
    labels.add_items(task, items)


def _wait(labels: Labels, task: str, run: StageRun) -> None:
    seen = 0
    with run.progress("labels", labels.progress(task).wanted) as bar:
        while True:
            now = labels.progress(task)
            bar.advance(now.labels - seen, annotators=now.annotators, skipped=now.skipped)
            seen = now.labels
            if now.done:
                return
            time.sleep(POLL)


def split_of_prompts(completions: Sequence[Mapping[str, Any]], validation_share: float) -> Split:
    """Held out by the prompt's id, as by the simulated annotator and `judge`; the same words under two ids together."""
    first: dict[str, str] = {}
    for row in completions:
        words = json.dumps(row["prompt"], sort_keys=True)
        first[words] = min(first.get(words, row["prompt_id"]), row["prompt_id"])

    def split(label: Label) -> str:
        known = first.get(json.dumps(label.prompt, sort_keys=True), label.prompt_id)
        return "validation" if request_seed(0, known) % 1000 < 1000 * validation_share else "train"

    return split


def _write(labels: Sequence[Label], split: Split, run: StageRun) -> None:
    rows = list(preference_rows(labels, split))
    pairs = [row for row in rows if "chosen" in row]
    if not pairs:
        raise DataError(
            f"{len(labels)} labels prefer nothing: ties, skips and flags make no pair",
            hint="look at `tutelage label stats`, and ask for more labels",
        )
    write_jsonl(run.directory / "preferences.jsonl", rows)
    run.metrics |= {
        "num_pairs": len(pairs),
        "num_prompts": len({json.dumps(row["prompt"]) for row in pairs}),
        "num_validation_pairs": sum(row["split"] == "validation" for row in pairs),
        "num_single_replies": len(rows) - len(pairs),
    }


def _measure(labels: Sequence[Label], stats: Statistics, run: StageRun) -> None:
    progress, bias = stats.progress, stats.position
    run.metrics |= {"num_labels": progress.labels, "num_annotators": progress.annotators, "skipped": progress.skipped}
    stated = {
        "agreement/alpha": stats.alpha_rankings,
        "ties": stats.ties,
        "first_shown_wins": bias.share,
        "self_agreement": sum(one.same for one in stats.self_agreement) / max(len(stats.self_agreement), 1) or None,
    }
    run.metrics |= {name: value for name, value in stated.items() if value is not None}
    if bias.p_value is not None and bias.p_value < _SURE:
        run.notes.append(
            f"what was shown first won {bias.first} of {bias.n} judgements (p = {bias.p_value:.1g}): "
            "people follow the order of the screen"
        )
    if stats.alpha_rankings is None:
        run.notes.append("agreement is undefined: no item was ranked by two people (see overlap_share)")
