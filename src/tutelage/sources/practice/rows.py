"""The shapes of rows that rules write: conversations with calls and results, held-out items, and pairs of replies."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.tools.calls import ToolCall

Row = dict[str, Any]
Round = tuple[Sequence[ToolCall], Sequence[str]]  # calls of one turn, and their results


def conversation(
    question: str, rounds: Sequence[Round], answer: str | None, tools: Sequence[Mapping[str, Any]], kind: str
) -> Row:
    """A question, rounds of calls with their results, and the answer (None: it ends with the last calls)."""
    messages: list[Row] = [{"role": "user", "content": question}]
    for calls, results in rounds:
        messages.append({"role": "assistant", "content": "", "tool_calls": [call.to_json() for call in calls]})
        messages += [{"role": "tool", "content": result} for result in results]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    offered = {"tools": list(tools)} if tools else {}
    return {"id": row_hash(messages, tools), "messages": messages, **offered, "source": "practice", "tags": [kind]}


def item(
    task: str, kind: str, question: str, *, answer: str = "", tools: Sequence[Any] = (), calls: Sequence[ToolCall] = ()
) -> Row:
    """A held-out item: `meta.tools` are definitions, or names of tools that are run; `meta.calls` what is right."""
    meta = {"tools": list(tools), "calls": [call.to_json()["function"] for call in calls], "decontaminate": False}
    messages = [{"role": "user", "content": question}]
    name = f"{task}/{row_hash(messages, meta)}"
    return {"id": name, "task": task, "kind": kind, "messages": messages, "answer": answer, "meta": meta}


def preference(
    prompt: Sequence[Row], chosen: str, rejected: str, *, kind: str, annotator: str, reason: str, validation: bool
) -> Row:
    """A prompt with a reply that is preferred over another because of a rule."""
    return {
        "id": row_hash(prompt, chosen, rejected), "prompt": list(prompt), "chosen": chosen, "rejected": rejected,
        "chosen_finished": True, "rejected_finished": True, "kind": kind, "annotator": annotator, "shown": [],
        "reason": reason, "weight": 1.0, "split": "validation" if validation else "train",
    }  # fmt: skip


def row_hash(*parts: Any) -> str:
    """Sixteen hexadecimal digits of what a row holds."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def is_held_out(name: str, share: float) -> bool:
    """Whether a name belongs to the share that is never learnt: the same at every seed and size."""
    return int(hashlib.sha256(f"held out/{name}".encode()).hexdigest()[:8], 16) < share * 2**32
