"""preferences: pairs, rankings and labelled replies → preferences.jsonl with a validation split, problems.jsonl."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.intake import select_files, tracked
from tutelage.sources.preferences import preferences
from tutelage.sources.rows import problem_log
from tutelage.sources.store import write_jsonl
from tutelage.stages.configs import PreferencesConfig


def run(config: PreferencesConfig, inputs: Inputs, run: StageRun) -> None:
    """Convert every row that `path` names, in a stable order, up to `limit` pairs."""
    files = select_files(config.path, config.needs, run)
    seen: Counter[str] = Counter()
    with problem_log(run.directory, config.on_problem) as log:
        found = islice(preferences(files, config.validation_share, log), config.limit)
        rows = tracked(found, run, "rows", config.limit)
        count = write_jsonl(run.directory / "preferences.jsonl", _counted(rows, seen))
        log.require(count, config.path, config.needs)
    run.metrics.update(pairs=count - seen["labelled"], files=len(files), problems=log.counts.total())
    if log.left_out:
        run.metrics["ties"] = log.left_out.total()
    run.metrics.update({f"pairs/{split}": seen[split] for split in ("train", "validation")})
    if seen["labelled"]:
        run.metrics["labelled"] = seen["labelled"]
        run.notes.append(f"{seen['labelled']} rows are single labelled replies: the stage `kto` learns from them")
    run.notes += log.notes(count)
    if config.validation_share and seen["train"] and not seen["validation"]:
        run.notes.append("no pair fell into the validation split: give more pairs or a larger validation_share")


def _counted(rows: Iterable[dict[str, Any]], seen: Counter[str]) -> Iterator[dict[str, Any]]:
    for row in rows:
        seen[row["split"] if "chosen" in row else "labelled"] += 1
        yield row
