"""stored: completions that clients of `tutelage serve` had stored → conversations.jsonl and problems.jsonl."""

from __future__ import annotations

from itertools import islice

from tutelage.errors import DataError
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.intake import tracked
from tutelage.sources.rows import problem_log
from tutelage.sources.store import write_jsonl
from tutelage.sources.stored import Selection, stored, stored_conversations
from tutelage.stages.configs import StoredConfig
from tutelage.store.engine import store_url


def run(config: StoredConfig, inputs: Inputs, run: StageRun) -> None:
    """Take what is in the store now, in the order of time."""
    selection = Selection(config.model, config.metadata, config.since, config.until, config.unfinished)
    url = config.store or store_url(run.directory.parent)
    with problem_log(run.directory, config.on_problem) as log:
        found = stored_conversations(stored(url, selection), config.unfinished, config.tags, log)
        rows = tracked(islice(found, config.limit), run, "conversations", config.limit)
        count = write_jsonl(run.directory / "conversations.jsonl", rows)
    run.metrics.update(conversations=count, problems=log.counts.total())
    run.notes += log.notes(count)
    if not count:
        raise DataError(
            f"no stored completion is of model {config.model or '(any)'} with metadata {config.metadata or '(any)'}"
            + (f"; {log.counts.total()} were refused" if log.counts else ""),
            hint="clients store by `store: true`; `tutelage completions list RUN` shows what there is",
        )
