"""One reply on its way: the principles drawn for it, what was criticised, what was written instead."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tutelage.constitutions.principles import Example, Principle
from tutelage.constitutions.rules import RULES, Exchange, Finding

Row = Mapping[str, Any]


@dataclass
class Chain:
    """A row of `completions.jsonl`, its reply as it is now, and the links that led there."""

    row: Row
    reply: str
    finish_reason: str
    num_tokens: int | None
    links: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, row: Row) -> Chain:
        """A chain at its beginning, or where an earlier stage left it."""
        return cls(row, row["completion"], row["finish_reason"], row.get("num_tokens"), list(row.get("chain", ())))

    @property
    def id(self) -> str:
        """The id of the completion."""
        return str(self.row["id"])

    @property
    def messages(self) -> list[dict[str, str]]:
        """The prompt: what was said before the reply."""
        return [dict(message) for message in self.row["prompt"]]

    @property
    def now(self) -> Exchange:
        """What rules are to judge."""
        return self.exchange(self.reply, self.finish_reason == "stop")

    def exchange(self, reply: str, finished: bool) -> Exchange:
        """Another reply to the same message."""
        asked = next((m["content"] for m in reversed(self.row["prompt"]) if m["role"] == "user"), "")
        return Exchange(str(asked), reply, finished)

    def as_row(self) -> dict[str, Any]:
        """The completion with its last reply; `response` is the first one."""
        return {
            **{name: value for name, value in self.row.items() if name != "turns"},  # they end in the first reply
            "completion": self.reply,
            "finish_reason": self.finish_reason,
            "num_tokens": self.num_tokens,
            "response": self.row.get("response", self.row["completion"]),
            "chain": self.links,
        }


def drawn(principles: Mapping[str, Principle], seed: int) -> str:
    """The name of one principle, by weight."""
    weights = [principle.weight for principle in principles.values()]
    return random.Random(seed).choices(list(principles), weights)[0]


def findings(principles: Mapping[str, Principle], exchange: Exchange) -> dict[str, Finding]:
    """What the rules of the principles find, each rule asked once."""
    rules = dict.fromkeys(principle.rule for principle in principles.values() if principle.rule is not None)
    return {rule: RULES[rule](exchange) for rule in rules}


def accepted(rule: str, before: Mapping[str, Finding], after: Mapping[str, Finding]) -> bool:
    """Whether a revision is taken: its rule objects no longer, and no rule thinks less of it than of the reply."""
    return not after[rule].objection and all(after[name].score >= finding.score for name, finding in before.items())


def critique_request(chain: Chain, principle: Principle, examples: Sequence[Example]) -> list[dict[str, str]]:
    """The dialogue up to where the critique begins."""
    shown = [
        turn
        for e in examples
        for turn in (
            *_exchange(e.prompt, e.response),
            *_exchange(principle.critique or "", e.critique),
            *_exchange(principle.revision or "", e.revision),
        )
    ]
    return [*_after_system(chain, shown), _said("assistant", chain.reply), _said("user", principle.critique or "")]


def revision_request(
    chain: Chain, principle: Principle, examples: Sequence[Example], critique: str, show: str
) -> list[dict[str, str]]:
    """What is put before the revision: the whole dialogue, or only requests with the replies that they end with."""
    if show == "revisions":
        return _after_system(chain, [turn for e in examples for turn in _exchange(e.prompt, e.revision)])
    request = [_said("assistant", critique), _said("user", principle.revision or "")]
    return [*critique_request(chain, principle, examples), *request]


def _after_system(chain: Chain, shown: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The prompt with examples put before its first turn: templates want the system's words first."""
    start = sum(message["role"] == "system" for message in chain.messages)
    return [*chain.messages[:start], *shown, *chain.messages[start:]]


def _exchange(asked: str, answered: str) -> list[dict[str, str]]:
    return [_said("user", asked), _said("assistant", answered)]


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
