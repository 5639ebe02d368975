"""Inputs that several stages read in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from tutelage.run.stage import Inputs
from tutelage.sources.store import read_jsonl


def conversations_of(inputs: Inputs) -> Iterator[dict[str, Any]]:
    """The rows of all `conversations` inputs, one artifact after the other."""
    folders = [artifact.path for field, artifact in inputs.items() if field.split(".")[0] == "conversations"]
    return chain.from_iterable(read_jsonl(folder / "conversations.jsonl") for folder in folders)
