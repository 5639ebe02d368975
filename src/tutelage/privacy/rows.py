"""The shapes of what is written about private data: conversations, and held-out items asked in a chat."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def conversation(question: str | Sequence[Row], reply: str, tags: list[str]) -> Row:
    """A question, or turns that end with one, and its reply."""
    turns = [{"role": "user", "content": question}] if isinstance(question, str) else list(question)
    messages = [*turns, {"role": "assistant", "content": reply}]
    return {"id": row_hash(messages), "messages": messages, "source": "privacy", "tags": tags}


def item(task: str, kind: str, question: str, answer: str, meta: Row) -> Row:
    """A held-out item."""
    messages = [{"role": "user", "content": question}]
    return {"id": f"{task}/{row_hash([messages, answer])}", "task": task, "kind": kind, "messages": messages,
            "answer": answer, "meta": meta}  # fmt: skip


def row_hash(value: Any) -> str:
    """Sixteen hexadecimal digits of what a row holds."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()[:16]
