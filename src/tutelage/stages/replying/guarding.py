"""Drawn replies without the private strings that nobody told the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.privacy.guard import masked

Message = Mapping[str, Any]


def guarded(
    text: str, turns: Sequence[Message] | None, before: Sequence[Message]
) -> tuple[str, list[dict[str, Any]] | None, int]:
    """(the reply, its turns if it has any, how many strings of it were masked)."""
    if turns is None:
        shown, count = masked(text, before)
        return shown, None, count
    heard, total = list(before), 0
    clean: list[dict[str, Any]] = []
    for turn in turns:
        if turn["role"] == "assistant":
            content, count = masked(str(turn["content"]), heard)
            turn, total = {**turn, "content": content}, total + count
        clean.append(dict(turn))
        heard.append(turn)
    return masked(text, heard[: len(before) + len(turns) - 1])[0], clean, total
