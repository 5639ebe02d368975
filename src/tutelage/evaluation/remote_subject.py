"""A model under evaluation that a server has: what it says, and where the server tells, how likely it finds a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tutelage.errors import NotOfferedError
from tutelage.evaluation.harness import Answer, Row, likeliest, seed_of
from tutelage.generation.asking import Offers, OptionsAsk, TextAsk, ToolAsk, Turn, continued, likelihoods, offers, turn
from tutelage.generation.remote import SEEDS, Ask, RemoteEngine
from tutelage.generation.sampling import Sampling
from tutelage.generation.tool_loop import MAX_ROUNDS, Dialogue, Ending, Step, round_seed
from tutelage.tools.calls import BadCall, ToolCall
from tutelage.tools.toolbox import Toolbox


@dataclass
class _Talk:
    """A conversation with tools on its way: what is sent next, and the turns so far."""

    messages: list[Mapping[str, Any]]
    steps: list[Step] = field(default_factory=list)
    ending: Ending = "length"


class RemoteSubject:
    """See harness.Measured. Replies have no tokens that are known here, so nothing can be compared token by token."""

    def __init__(self, label: str, engine: RemoteEngine) -> None:
        self.label, self._engine = label, engine

    @cached_property
    def offers(self) -> Offers:
        """What the server does."""
        return self._engine.all([f"a trial request for {self.label}"], offers)[0]

    @property
    def repeated(self) -> str:
        """How many requests had to be made again, in words; "" if none had."""
        counts = self._engine.repeated
        reasons = "; ".join(f"{reason} ({count})" for reason, count in counts.most_common())
        return f"{counts.total()} requests to {self._engine.server.url} were repeated: {reasons}" if counts else ""

    def reply(self, rows: Sequence[Row], sampling: Sampling) -> list[Answer]:
        """See Measured."""
        self._require(self.offers.chat, "does not chat")
        answers = dict(self._engine.answers([self._ask(row, row["messages"], sampling) for row in rows]))
        return [Answer(said.text, said.finish_reason == "stop") for n in range(len(rows)) for said in answers[n]]

    def turns(self, rows: Sequence[Row], sampling: Sampling) -> list[tuple[str, list[ToolCall | BadCall]]]:
        """See Measured."""
        self._require(self.offers.chat, "does not chat")
        asks = [ToolAsk(self._ask(row, row["messages"], sampling), row["meta"]["tools"]) for row in rows]
        return [(found.text, list(found.calls)) for found in self._engine.all(asks, turn)]

    def converse(self, rows: Sequence[Row], toolbox: Toolbox, sampling: Sampling) -> list[Dialogue]:
        """See Measured; the conversations go on together, a round of calls after the other."""
        self._require(self.offers.chat, "does not chat")
        talks = [_Talk(list(row["messages"])) for row in rows]
        going = list(range(len(rows)))
        for round_number in range(MAX_ROUNDS + 1):
            asks = [
                ToolAsk(self._ask(rows[n], talks[n].messages, sampling, round_number), toolbox.definitions)
                for n in going
            ]
            found = self._engine.all(asks, turn)
            last = round_number == MAX_ROUNDS
            going = [n for n, said in zip(going, found, strict=True) if _take(talks[n], said, toolbox, last)]
        return [Dialogue([], [], [], talk.steps, talk.ending) for talk in talks]

    def complete(self, rows: Sequence[Row], max_tokens: int, temperature: float = 0.0) -> list[Answer]:
        """See Measured; greedy only."""
        self._require(self.offers.text, "does not go on with a text")
        self._require("continuations that are drawn are not asked for" if temperature else "", "goes on greedily")
        asks = [TextAsk(row["prompt"], max_tokens, str(row["id"])) for row in rows]
        return [Answer(text, ended == "stop") for text, ended in self._engine.all(asks, continued)]

    def choose(self, rows: Sequence[Row]) -> list[int]:
        """See Measured."""
        self._require(self.offers.likelihood, "does not tell how likely a text is")
        asks = [OptionsAsk(row.get("prompt", ""), row["options"], str(row["id"])) for row in rows]
        return likeliest(self._engine.all(asks, likelihoods))

    def _require(self, reason: str, what: str) -> None:
        if reason:
            raise NotOfferedError(f"{self._engine.server.url} {what} with {self._engine.server.model}: {reason}")

    def _ask(self, row: Row, messages: Sequence[Mapping[str, Any]], sampling: Sampling, round_number: int = 0) -> Ask:
        seed = round_seed(seed_of(row["id"]), round_number) % SEEDS
        return Ask(messages, sampling, seed, name=str(row["id"]))


def _take(talk: _Talk, said: Turn, toolbox: Toolbox, last: bool) -> bool:
    """Add a turn with the results of its calls; whether there is something to go on from.

    A call that is none is not sent back: a server would refuse it.
    """
    readable = all(isinstance(call, ToolCall) for call in said.calls)
    settled = tuple(toolbox.settle(call) if isinstance(call, ToolCall) else call for call in said.calls)
    ended = said.finish_reason in ("stop", "tool_calls")
    if not settled or not readable or not ended or last:
        talk.steps.append(Step(said.text, settled))
        talk.ending = "length" if not ended else "rounds" if settled else "stop"
        return False
    results = tuple(toolbox.run(call) for call in settled)
    talk.steps.append(Step(said.text, settled, results))
    talk.messages.append({"role": "assistant", "content": said.text, "tool_calls": said.message["tool_calls"]})
    for value, result in zip(said.message["tool_calls"], results, strict=True):
        talk.messages.append({"role": "tool", "tool_call_id": value.get("id", ""), "content": result.text})
    return True


class Skipped:
    """Tasks that a server does not offer what is needed for, by the reason."""

    def __init__(self, label: str) -> None:
        self._label, self._tasks = label, dict[str, list[str]]()

    @contextmanager
    def if_not_offered(self, task: str) -> Iterator[None]:
        """Leave the block, and remember the task, where the server does not do what it asks for."""
        try:
            yield
        except NotOfferedError as error:
            self._tasks.setdefault(error.message, []).append(task)

    @property
    def notes(self) -> list[str]:
        """What was not measured, and why."""
        return [f"{self._label}: {', '.join(tasks)} not measured: {reason}" for reason, tasks in self._tasks.items()]
