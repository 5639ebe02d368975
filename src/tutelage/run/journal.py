"""The journal of metrics: one JSON line a step, appended, repaired after a kill."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Journal:
    """Appends rows `{"step", "time", metric: value, …}` to `journal.jsonl`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rewind(self, step: int) -> None:
        """Move rows after `step` (a resumed run writes them again) to the branches, and drop a torn last line."""
        if not self.path.exists():
            return
        every = read_journal(self.path)
        rows = [row for row in every if row["step"] <= step]
        self._keep_branch([row for row in every if row["step"] > step])
        beside = self.path.with_suffix(".tmp")
        beside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        beside.replace(self.path)

    def _keep_branch(self, left: Sequence[Mapping[str, Any]]) -> None:
        """What a killed run had reached beyond its checkpoint: `{"branch": number, …the row}` in a file beside."""
        if not left:
            return
        path = branches_of(self.path)
        number = 1 + max((row["branch"] for row in read_journal(path)), default=0) if path.exists() else 1
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps({"branch": number, **row}) + "\n" for row in left))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one row; a value that is not finite is written as a string so that the file stays JSON."""
        row: dict[str, Any] = {"step": step, "time": round(time.time(), 3)}
        row.update({name: _json_number(value) for name, value in metrics.items()})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def branches_of(journal: Path) -> Path:
    """Where the rows are that resumed runs left behind."""
    return journal.with_suffix(".branches.jsonl")


def _json_number(value: float) -> float | str:
    return value if value == value and abs(value) != float("inf") else str(value)


def read_journal(path: Path) -> list[dict[str, Any]]:
    """All whole rows; a torn last line, as a kill leaves it, is passed over."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
