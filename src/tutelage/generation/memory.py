"""Answers of a server, kept in a file as they arrive: a stage that was killed asks only for what is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Memory:
    """Answers by what was asked. A request has its seed in it, so that an equal one would be answered equally."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = 0
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
            try:
                row = json.loads(line)
            except ValueError:  # a kill tore the last line
                break
            self._known[row["asked"]] = row["answer"]
            whole += len(line)
        with path.open("ab") as file:
            file.truncate(whole)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, path: str, payload: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was answered before."""
        return self._known.get(_key(path, payload))

    def keep(self, path: str, payload: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Write an answer down."""
        key = _key(path, payload)
        self._known[key] = dict(answer)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"asked": key, "answer": answer}) + "\n")


def _key(path: str, payload: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([path, payload], sort_keys=True).encode()).hexdigest()
