"""Stored completions as conversations: what a served model was asked and said, to be learnt by another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tutelage.sources.conversations import conversations_of, tools_of
from tutelage.sources.rows import ProblemLog, RowRefused
from tutelage.store.completions import Kept, Wanted, every
from tutelage.store.engine import opened

SOURCE = "store"


@dataclass(frozen=True)
class Selection:
    """Which completions, in words: times are ISO dates, `until` is left out itself; `unfinished`: cut ones too."""

    model: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    since: str | None = None
    until: str | None = None
    unfinished: bool = False

    @property
    def wanted(self) -> Wanted:
        """As the store is asked; everyone's."""
        since, until = (None if text is None else moment(text) for text in (self.since, self.until))
        return Wanted(None, self.model, self.metadata, since, until)


def moment(text: str) -> float:
    """Seconds since 1970 of `2026-11-26`, `2026-11-26T10:00` (UTC) or `…+01:00`. ValueError for anything else."""
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()


def stored(url: str, selection: Selection) -> Iterator[Kept]:
    """The completions of a store, in the order of time."""
    with opened(url) as store:
        yield from every(store, selection.wanted)


def stored_conversations(
    completions: Iterator[Kept], unfinished: bool, tags: Sequence[str], log: ProblemLog
) -> Iterator[dict[str, Any]]:
    """Rows of conversations.jsonl, one for each choice; what is no conversation goes to the log."""
    for line, kept in enumerate(completions, start=1):
        for choice in kept.body["choices"]:
            try:
                yield _row(kept, choice, unfinished, tags)
            except RowRefused as refused:
                log.refuse(kept.id, line, refused)


def _row(kept: Kept, choice: Mapping[str, Any], unfinished: bool, tags: Sequence[str]) -> dict[str, Any]:
    if choice["finish_reason"] == "length" and not unfinished:
        raise RowRefused("a reply that was cut short", "it teaches not to stop; `unfinished: true` takes it")
    message = {key: value for key, value in choice["message"].items() if value is not None}
    (messages,) = conversations_of({"messages": [*kept.messages, {"content": "", **message}]})
    own = {"source": SOURCE, "tags": [*tags, f"model={kept.model}", *(f"{k}={v}" for k, v in kept.metadata.items())]}
    offered = tools_of({"tools": kept.request.get("tools")})
    number = f"-{choice['index']}" if len(kept.body["choices"]) > 1 else ""
    return {"id": f"{kept.id}{number}", "messages": messages, **offered, **own}
