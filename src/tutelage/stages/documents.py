"""documents: files and rows of text from outside → documents.parquet, with everything refused in problems.jsonl."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.documents import FILE_FORMATS, DocumentOptions, documents
from tutelage.sources.intake import select_files, tracked
from tutelage.sources.rows import problem_log
from tutelage.sources.store import write_documents
from tutelage.stages.configs import DocumentsConfig


def run(config: DocumentsConfig, inputs: Inputs, run: StageRun) -> None:
    """Read every document that `path` names, in a stable order, up to `limit`."""
    files = select_files(config.path, config.needs, run, FILE_FORMATS)
    options = DocumentOptions(config.licence, config.language, config.split, config.max_characters)
    with problem_log(run.directory, config.on_problem) as log:
        found = islice(documents(files, options, log), config.limit)
        rows = tracked(found, run, "documents", config.limit)
        count = write_documents(run.directory, _measured(rows, run))
        log.require(count, config.path, config.needs)
    run.metrics.update(documents=count, files=len(files), problems=log.counts.total())
    run.notes += log.notes(count)


def _measured(rows: Iterable[dict[str, Any]], run: StageRun) -> Iterator[dict[str, Any]]:
    run.metrics["characters"] = 0
    for row in rows:
        run.metrics["characters"] += len(row["text"])
        yield row
