"""A row in the making: what was asked and said in each step, by whom, and which filters it passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tutelage.generation.remote import Answer, Ask

Row = dict[str, Any]
Messages = list[dict[str, str]]


class Parent(NamedTuple):
    """What rows are made from: a passage, a topic, a problem; `id` says where it is found, `extra` what is known."""

    id: str
    text: str
    extra: Mapping[str, Any] = {}


class Finding(NamedTuple):
    """What one filter measured, and whether that will do."""

    filter: str
    value: float | str
    passed: bool


@dataclass
class Draft:
    """One row on its way; `key` is the text that no other row may repeat."""

    id: str
    parent: Parent
    seed: int
    messages: Messages = field(default_factory=list)
    key: str = ""
    tags: list[str] = field(default_factory=list)
    evidence: str = ""
    steps: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def check(self, name: str, value: float | str, passed: bool) -> bool:
        """Write down what a filter says; returns whether it passed."""
        self.findings.append(Finding(name, round(value, 4) if isinstance(value, float) else value, passed))
        return passed

    @property
    def sound(self) -> bool:
        """Whether no filter has objected so far."""
        return all(finding.passed for finding in self.findings)

    @property
    def reason(self) -> str:
        """The first filter that objected."""
        return next((finding.filter for finding in self.findings if not finding.passed), "")

    def took(self, step: str, ask: Ask, answer: Answer, writer: tuple[str, str]) -> None:
        """Write down one step: the prompt as it was given, the reply as it came, sampling and seed."""
        name, fingerprint = writer
        self.steps.append({
            "step": step, "prompt": list(ask.messages), "reply": answer.text, "finish_reason": answer.finish_reason,
            "num_tokens": answer.num_tokens, "model": name, "model_fingerprint": fingerprint,
            "sampling": {**vars(ask.sampling), "seed": ask.seed},
        })  # fmt: skip

    def as_row(self) -> Row:
        """A row of `rows.jsonl` or, with its reason, of `rejected.jsonl`."""
        return {
            "id": self.id,
            "parent": self.parent.id,
            **({"evidence": self.evidence} if self.evidence else {}),
            "steps": self.steps,
            "filters": {finding.filter: finding.value for finding in self.findings},
        }

    def as_conversation(self, source: str) -> Row:
        """A row of `conversations.jsonl`."""
        return {"id": self.id, "messages": self.messages, "source": source, "tags": self.tags}


def turns(*said: str) -> Messages:
    """Messages of a user and an assistant in turn."""
    return [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(said)]


def sound(drafts: Sequence[Draft]) -> list[Draft]:
    """The drafts to which nothing objected so far."""
    return [draft for draft in drafts if draft.sound]
