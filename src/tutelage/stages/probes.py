"""probes: items on which toxicity and bias are measured, from files."""

from __future__ import annotations

from collections import Counter

from tutelage.run.config import expanded
from tutelage.run.stage import Inputs, StageRun
from tutelage.safety.probes import read_probes
from tutelage.sources.store import write_jsonl
from tutelage.stages.configs import ProbesConfig


def run(config: ProbesConfig, inputs: Inputs, run: StageRun) -> None:
    """Write the items of all files."""
    paths = [config.path] if isinstance(config.path, str) else config.path
    rows = read_probes([expanded(path) for path in paths], config.samples)
    run.metrics["tasks"] = write_jsonl(run.directory / "tasks.jsonl", rows)
    counts = Counter(str(row["task"]) for row in rows)
    run.metrics |= {f"tasks/{task}": count for task, count in sorted(counts.items())}
