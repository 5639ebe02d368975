"""Replies to the same few prompts while a model was trained: before, after, and the looks in between."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tutelage.errors import ArtifactError
from tutelage.evaluation.report.replies import ending, fold, turns
from tutelage.evaluation.report.text import finite, number

Row = Mapping[str, Any]

SAMPLES = "samples.jsonl"
SHOWN_PROMPTS = 2  # of a stage, before the rest folds


def read_samples(folder: Path) -> list[Row]:
    """The rows of a stage's `samples.jsonl`, by step; none where it kept no replies. Raises ArtifactError."""
    path = folder / SAMPLES
    if not path.exists():
        return []
    try:
        # not splitlines(): a model may write any of Unicode's line ends
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}", hint=f"make it again: --from {folder.name}") from error
    if not all(isinstance(row, dict) for row in rows):
        raise ArtifactError(f"{path}: expected an object on every line", hint=f"make it again: --from {folder.name}")
    return sorted(rows, key=_step)


def by_prompt(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every prompt once, with its replies by step: `{prompt_id, prompt, replies: [{step, text, finish_reason}]}`."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = str(row.get("prompt_id"))
        entry = found.setdefault(name, {"prompt_id": name, "prompt": row.get("prompt", ""), "replies": []})
        reply = {"step": _step(row), "text": str(row.get("completion", "")), "finish_reason": row.get("finish_reason")}
        entry["replies"].append(reply)
    return list(found.values())


def before_after(rows: Sequence[Row]) -> dict[str, Any]:
    """A stage's prompts as they are shown: the first ones, and the rest folded; empty without samples."""
    shown = [_shown(entry) for entry in by_prompt(rows)]
    return {"first": shown[:SHOWN_PROMPTS], "rest": shown[SHOWN_PROMPTS:]} if shown else {}


def _shown(entry: Row) -> dict[str, Any]:
    first, *later = entry["replies"]
    pair = [_reply("before", 0, first)]
    if later:
        pair.append(_reply("→ after", 1, later[-1]) | {"same": _said(later[-1]) == _said(first)})
    changed = len({_said(reply) for reply in entry["replies"]}) > 1
    between = [list(group) for _, group in groupby(later[:-1], key=_said)] if changed else []
    return {
        "prompt": turns(entry["prompt"]),
        "pair": pair,
        "between": [_reply(_steps(group), 0, group[0]) for group in between],
        "looks": len(later[:-1]),
    }


def _reply(label: str, place: int, reply: Row) -> dict[str, Any]:
    cut = ending(reply["finish_reason"]) if reply["finish_reason"] != "stop" else ""
    return {"label": label, "place": place, "end": cut, "same": False, **fold(reply["text"])}


def _steps(group: Sequence[Row]) -> str:
    """`step 50`, or `steps 50–150` of one reply that was given several times in a row."""
    first, last = number(group[0]["step"]), number(group[-1]["step"])
    return f"step {first}" if len(group) == 1 else f"steps {first}–{last}"


def _said(reply: Row) -> tuple[str, str]:
    return reply["text"], str(reply["finish_reason"])


def _step(row: Row) -> float:
    return finite(row.get("step")) or 0.0
