"""tools: conversations in which tools are called, to learn from, and items of which none is in them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tutelage.errors import DataError
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.files import SourceFile, expand
from tutelage.sources.practice import arithmetic, functions
from tutelage.sources.practice.annotated import annotated_conversation
from tutelage.sources.practice.seal_tools import TOOLS_FILE, SealTools
from tutelage.sources.records import records
from tutelage.sources.rows import ProblemLog, RowRefused, problem_log
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.stages.configs import ToolsConfig
from tutelage.stages.replying.inputs import words_of

Row = dict[str, Any]


def run(config: ToolsConfig, inputs: Inputs, run: StageRun) -> None:
    """Write what is generated, what GSM8K and Seal-Tools have, and plain conversations with tools offered."""
    learnt: list[Row] = []
    held: list[Row] = []
    words = words_of(inputs)
    if config.arithmetic:
        learnt += arithmetic.conversations(config.arithmetic, config.digits, config.unaided_share, run.seed)
        held += arithmetic.items(config.items, config.digits, run.seed)
    if config.functions:
        learnt += functions.conversations(config.functions, config.most_others, words, run.seed)
        held += functions.items(config.items, config.most_others, run.seed)
    if "plain" in inputs:
        rows = list(read_jsonl(inputs["plain"].path / "conversations.jsonl"))
        share = config.plain_items_share
        plain, items = functions.plain_rows(rows, share, config.most_others, words, run.seed)
        learnt += plain
        held += items
    (run.directory / "conversations").mkdir(exist_ok=True)
    with problem_log(run.directory / "conversations", config.on_problem) as log:
        learnt += _gsm8k(expand(config.gsm8k), log) if config.gsm8k else []
        if config.seal_tools is not None:
            found, items = _seal_tools(config.seal_tools, config, run.seed, log)
            learnt += found
            held += items
        run.metrics["problems"] = log.counts.total()
        run.notes += log.notes(len(learnt))
    if not learnt:
        raise DataError(
            f"{run.name} has nothing to write", hint="set arithmetic, functions, plain, gsm8k or seal_tools"
        )
    learnt, held = _distinct(learnt), _distinct(held)
    random.Random(run.seed).shuffle(learnt)
    write_jsonl(run.directory / "conversations" / "conversations.jsonl", learnt)
    write_jsonl(run.directory / "tasks" / "tasks.jsonl", held)
    run.metrics["conversations"] = len(learnt)
    run.metrics["conversations/calling"] = sum(_calls(row) for row in learnt)
    run.metrics["tasks"] = len(held)


def _gsm8k(files: Iterable[SourceFile], log: ProblemLog) -> Iterator[Row]:
    for file in files:
        for record in records(file, log):
            try:
                yield annotated_conversation(record.row)
            except RowRefused as refused:
                log.refuse(str(file.path), record.line, refused)


def _seal_tools(path: str, config: ToolsConfig, seed: int, log: ProblemLog) -> tuple[list[Row], list[Row]]:
    folder = Path(path).expanduser()
    tools = SealTools(folder, log)
    files = [file for file in expand(str(folder)) if file.suffix == ".jsonl" and file.path.name != TOOLS_FILE]
    return tools.read(files, config.most_others, config.seal_held_out, seed, log)


def _distinct(rows: Iterable[Row]) -> list[Row]:
    """Each row once, by its id: two that are drawn alike are one."""
    return list({row["id"]: row for row in rows}.values())


def _calls(row: Row) -> bool:
    return any(message.get("tool_calls") for message in row["messages"])
