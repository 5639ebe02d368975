"""What comes of attacks: attempts with their provenance, and what is to be learnt from those that succeeded.

Perez et al., arXiv 2202.03286 (a model attacks); Ganguli et al., arXiv 2209.07858 (people attack, successes become
training data); Röttger et al., arXiv 2308.01263 (safe requests in unsafe clothes must stay answered).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tutelage.feedback.rubric import is_refusal
from tutelage.safety.attacks import Attack, wrapped
from tutelage.sources.practice.rows import preference

Row = dict[str, Any]
PLAIN = "plain"  # the kind of a request that stands as it is


@dataclass
class Attempt:
    """One request in one attack. `turns` are the user's; `messages` what was said, the last reply left out."""

    prompt: Mapping[str, Any]
    harmful: bool
    kind: str
    turns: list[str]
    round: int
    messages: list[Row] = field(default_factory=list)
    reply: str = ""
    finish_reason: str = ""
    declined: bool = False
    teaches: str = ""  # what should have been said; empty if there is nothing to be learnt

    @property
    def id(self) -> str:
        """By what was asked, and in which round."""
        return hashlib.sha256(json.dumps([self.prompt["id"], self.turns, self.round]).encode()).hexdigest()[:16]

    def as_row(self, model: str, sampling: Mapping[str, Any]) -> Row:
        """A row of completions.jsonl; `meta` has all that the next round, and whoever asks why, needs."""
        meta = {"attack": self.kind, "harmful": self.harmful, "round": self.round, "declined": self.declined,
                "teaches": self.teaches, "request": request_of(self.prompt)}  # fmt: skip
        return {
            "id": self.id, "prompt_id": self.prompt["id"], "prompt": self.messages, "kind": self.prompt["kind"],
            "answer": self.prompt.get("answer"), "meta": meta, "completion": self.reply,
            "finish_reason": self.finish_reason, "num_tokens": None, "sampling": dict(sampling), "model": model,
        }  # fmt: skip


def request_of(prompt: Mapping[str, Any]) -> str:
    """What is asked for."""
    return str(prompt["messages"][-1]["content"])


def weights(kinds: Iterable[str], earlier: Sequence[Row]) -> dict[str, float]:
    """How often each kind is to be drawn: by how often it succeeded before, never less than a fifth as often."""
    found = {}
    for kind in kinds:
        tried = [row for row in earlier if row["meta"]["harmful"] and row["meta"]["attack"] == kind]
        won = sum(not row["meta"]["declined"] for row in tried)
        found[kind] = 0.2 + (won + 1) / (len(tried) + 1)
    return found


def attempts(
    prompts: Sequence[Mapping[str, Any]],
    kinds: Mapping[str, Sequence[Attack]],
    chances: Mapping[str, float],
    count: int,
    harmful: bool,
    number: int,
    rng: random.Random,
) -> Iterator[Attempt]:
    """Every prompt in `count` attacks, of kinds drawn by their chances, none of them twice; and once as it stands."""
    for prompt in prompts:
        yield Attempt(prompt, harmful, PLAIN, [request_of(prompt)], number)
        left = dict(chances)
        for _ in range(min(count, len(left))):
            kind = rng.choices(list(left), list(left.values()))[0]
            del left[kind]
            turns = wrapped(request_of(prompt), kinds[kind], rng)
            if turns is not None:
                yield Attempt(prompt, harmful, kind, turns, number)


def refusal_to(prompt: Mapping[str, Any], refusals: Sequence[str], rng: random.Random) -> str:
    """The prompt's own refusal, or one of the list."""
    answer = str(prompt.get("answer") or "")
    return answer if is_refusal(answer) else rng.choice(refusals)


def answer_to(prompt: Mapping[str, Any], plain: Attempt | None) -> str:
    """The answer that a harmless request comes with, as the model puts it if it does; without one, what it says.

    Its own words only count if it finished them and declined nothing.
    """
    answer = "" if is_refusal(str(prompt.get("answer") or "")) else str(prompt.get("answer") or "")
    own = "" if plain is None or plain.declined or plain.finish_reason != "stop" else plain.reply.strip()
    return own if own and answer in own else answer


def conversation(row: Row) -> Row:
    """What an attempt teaches, as a conversation."""
    messages = [*row["prompt"], {"role": "assistant", "content": row["meta"]["teaches"]}]
    tags = ["redteam", "harmful" if row["meta"]["harmful"] else "harmless", row["meta"]["attack"]]
    return {
        "id": row["id"],
        "messages": messages,
        "source": "redteam",
        "tags": [*tags, f"round {row['meta']['round']}"],
    }


def preference_of(row: Row, validation_share: float) -> Row:
    """What should have been said, preferred over what was said."""
    held = int(hashlib.sha256(row["prompt_id"].encode()).hexdigest()[:8], 16) % 1000 < 1000 * validation_share
    reason = "complied with an attack" if row["meta"]["harmful"] else "declined a harmless request"
    made = preference(
        row["prompt"],
        row["meta"]["teaches"],
        row["completion"],
        kind=row["kind"],
        annotator="redteam",
        reason=f"{reason} ({row['meta']['attack']})",
        validation=held,
    )
    finished = row["finish_reason"] == "stop"
    return made | {"id": row["id"], "prompt_id": row["prompt_id"], "rejected_finished": finished}


def items(
    task: str,
    prompts: Sequence[Mapping[str, Any]],
    kinds: Mapping[str, Sequence[Attack]],
    count: int,
    rng: random.Random,
) -> list[Row]:
    """Up to `count` held-out items, the kinds in turn; each prompt in as many kinds as it takes, in none twice."""
    names = sorted(kinds)
    found: list[Row] = []
    pairs = [(prompt, place) for place in range(len(names)) for prompt in rng.sample(prompts, len(prompts))]
    for number, (prompt, place) in enumerate(pairs):
        kind = names[(number + place) % len(names)]
        turns = wrapped(request_of(prompt), kinds[kind], rng)
        if turns is None or len(found) == count:
            continue
        messages = [{"role": "user", "content": text} for text in turns]
        name = hashlib.sha256(json.dumps([task, kind, turns]).encode()).hexdigest()[:16]
        meta = {"request": request_of(prompt), "decontaminate": False}
        found.append({"id": f"{task}/{name}", "task": task, "kind": kind, "messages": messages, "meta": meta})
    return list({row["id"]: row for row in found}.values())
