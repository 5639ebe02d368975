"""conversations: rows of any known chat or instruction format → conversations.jsonl and problems.jsonl."""

from __future__ import annotations

from itertools import islice

from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.conversations import conversations
from tutelage.sources.intake import select_files, tracked
from tutelage.sources.rows import problem_log
from tutelage.sources.store import write_jsonl
from tutelage.stages.configs import ConversationsConfig


def run(config: ConversationsConfig, inputs: Inputs, run: StageRun) -> None:
    """Convert every row that `path` names, in a stable order, up to `limit` conversations."""
    files = select_files(config.path, config.needs, run)
    with problem_log(run.directory, config.on_problem) as log:
        rows = tracked(islice(conversations(files, config.tags, log), config.limit), run, "conversations", config.limit)
        count = write_jsonl(run.directory / "conversations.jsonl", rows)
        log.require(count, config.path, config.needs)
    run.metrics.update(conversations=count, files=len(files), problems=log.counts.total())
    run.notes += log.notes(count)
