"""canaries: random secrets planted in documents; what a model keeps of them is measured, and can be sealed again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

from tutelage.privacy.canaries import canaries, documents, items, size
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.practice.rows import is_held_out
from tutelage.sources.store import read_documents, write_documents, write_jsonl
from tutelage.stages.configs import CanariesConfig


def run(config: CanariesConfig, inputs: Inputs, run: StageRun) -> None:
    """Write the documents with the canaries among them, and the canaries themselves as tasks."""
    planted = canaries(config.repeats, config.each, run.seed)
    rows = chain(_taken_over(config, inputs), documents(planted, run.seed))
    run.metrics["documents"] = write_documents(run.directory / "documents", rows)
    run.metrics["documents/planted"] = sum(canary.repeats for canary in planted)
    run.metrics["tasks"] = write_jsonl(run.directory / "tasks" / "tasks.jsonl", items(planted, run.seed))
    run.metrics["canaries"] = len(planted)
    for form, count in sorted(Counter(canary.form for canary in planted).items()):
        run.metrics[f"canaries/{form.replace(' ', '_')}"] = count
    run.metrics["space/smallest"] = min(size(canary.space) for canary in planted)


def _taken_over(config: CanariesConfig, inputs: Inputs) -> Iterator[dict[str, Any]]:
    if "documents" in inputs:
        for row in read_documents(inputs["documents"].path).to_pylist():
            if config.share == 1 or is_held_out(row["id"], config.share):
                yield row
