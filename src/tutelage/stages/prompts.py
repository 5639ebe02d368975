"""prompts: conversations without their last reply → prompts.jsonl, to sample from or to train on by reward."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tutelage.errors import DataError
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.stages.configs import PromptsConfig


def run(config: PromptsConfig, inputs: Inputs, run: StageRun) -> None:
    """Cut every conversation before its last assistant turn, which is kept as `meta.reference`."""
    rows = _prompts(inputs["conversations"].path / "conversations.jsonl", config.kind)
    if config.shuffle:
        shuffled = list(rows)
        random.Random(run.seed).shuffle(shuffled)
        rows = iter(shuffled)
    count = write_jsonl(run.directory / "prompts.jsonl", islice(rows, config.limit))
    if count == 0:
        raise DataError(
            f"{inputs['conversations'].name}: no conversation has a turn before an assistant's turn",
            hint="prompts are made from conversations in which a user is answered",
        )
    run.metrics["prompts"] = count


def _prompts(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    for row in read_jsonl(path):
        messages = row["messages"]
        last = max((place for place, message in enumerate(messages) if message["role"] == "assistant"), default=0)
        if last:
            meta = {"conversation": row["id"], "reference": messages[last]["content"]}
            yield {"id": row["id"], "messages": messages[:last], "kind": kind, "meta": meta}
