"""One model under evaluation: replies, completions and likelihoods of task rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tutelage.data.completions import Completion, prompt_ids, sequence_logprobs
from tutelage.data.tokenizer import TextTokenizer
from tutelage.data.tool_calls import read_reply
from tutelage.errors import NotOfferedError
from tutelage.generation.engine import Engine, Reply, Request
from tutelage.generation.guidance import guided_calls
from tutelage.generation.request import Steering
from tutelage.generation.sampling import Sampling
from tutelage.generation.tool_loop import Dialogue, run_dialogues
from tutelage.model.transformer import CausalLM
from tutelage.tools.calls import BadCall, ToolCall
from tutelage.tools.toolbox import Toolbox

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """A reply as text, with how it ended; where they are known, its tokens and the log-probability of each of them."""

    text: str
    finished: bool
    completion: Completion | None = None
    logprobs: tuple[float, ...] = ()


class Measured(Protocol):
    """Who is put through tasks. NotOfferedError where it cannot do such a thing."""

    label: str

    def reply(self, rows: Sequence[Row], sampling: Sampling) -> list[Answer]:
        """Chat replies to `messages`."""

    def turns(self, rows: Sequence[Row], sampling: Sampling) -> list[tuple[str, list[ToolCall | BadCall]]]:
        """One turn after `messages`, with the definitions `meta.tools` offered: what it says and what it calls."""

    def converse(self, rows: Sequence[Row], toolbox: Toolbox, sampling: Sampling) -> list[Dialogue]:
        """Replies to `messages` in which the toolbox's tools are called and answer."""

    def complete(self, rows: Sequence[Row], max_tokens: int, temperature: float = 0.0) -> list[Answer]:
        """Continuations of `prompt` as the beginning of a document; greedy without a temperature."""

    def choose(self, rows: Sequence[Row]) -> list[int]:
        """The likeliest of each row's `options` after its `prompt` (none: as a whole document)."""


@dataclass
class Subject:
    """A model with its label in the recipe."""

    label: str
    model: CausalLM
    tokenizer: TextTokenizer
    max_slots: int = 64

    def reply(self, rows: Sequence[Row], sampling: Sampling) -> list[Answer]:
        """Chat replies to `messages`; each row's random numbers come from its id."""
        prompts = [prompt_ids(self.tokenizer, row["messages"]) for row in rows]
        return self._generate(rows, prompts, sampling, self.tokenizer.stop_ids)

    def play(self, rows: Sequence[Row], sampling: Sampling) -> list[list[Answer]]:
        """The replies to every user turn of `messages`, each after all before it; none once the context is full."""
        return [answers for _, answers in self._play(rows, sampling)]

    def heard(self, rows: Sequence[Row], sampling: Sampling) -> list[list[dict[str, Any]]]:
        """The messages with the replies to every user turn among them."""
        return [messages for messages, _ in self._play(rows, sampling)]

    def last(self, rows: Sequence[Row], sampling: Sampling) -> list[Answer | None]:
        """The reply to whole conversations; None where the context has no room for one."""
        fit = [number for number, row in enumerate(rows) if self._has_room(row["messages"])]
        found: list[Answer | None] = [None] * len(rows)
        for number, answer in zip(fit, self.reply([rows[number] for number in fit], sampling), strict=True):
            found[number] = answer
        return found

    def _play(self, rows: Sequence[Row], sampling: Sampling) -> list[tuple[list[dict[str, Any]], list[Answer]]]:
        played: list[tuple[list[dict[str, Any]], list[Answer]]] = [([], []) for _ in rows]
        for turn in range(max((len(row["messages"]) for row in rows), default=0)):
            asked = [number for number, row in enumerate(rows) if turn < len(row["messages"])]
            for number in asked:
                played[number][0].append(dict(rows[number]["messages"][turn]))
            asked = [number for number in asked if rows[number]["messages"][turn]["role"] == "user"]
            now = [{"id": f"{rows[number]['id']}/{turn}", "messages": played[number][0]} for number in asked]
            for number, answer in zip(asked, self.last(now, sampling), strict=True):
                if answer is not None:
                    played[number][0].append({"role": "assistant", "content": answer.text})
                    played[number][1].append(answer)
        return played

    def _has_room(self, messages: Sequence[Mapping[str, Any]]) -> bool:
        return len(prompt_ids(self.tokenizer, messages)) < self.model.config.max_position_embeddings

    def turns(
        self, rows: Sequence[Row], sampling: Sampling, guided: bool = False
    ) -> list[tuple[str, list[ToolCall | BadCall]]]:
        """One turn after `messages`, with the definitions `meta.tools` offered: what it says and what it calls.

        `guided`: as chat and server draw it, so that a call can only be one of a tool that is there.
        """
        offered = [row["meta"]["tools"] for row in rows]
        prompts = [prompt_ids(self.tokenizer, row["messages"], tools) for row, tools in zip(rows, offered, strict=True)]
        steering = [guided_calls(self.tokenizer, tools) if guided else None for tools in offered]
        answers = self._generate(rows, prompts, sampling, self.tokenizer.stop_ids, steering)
        return [read_reply(self.tokenizer, c.ids[c.num_prompt :]) for c in completions_of(answers)]

    def converse(self, rows: Sequence[Row], toolbox: Toolbox, sampling: Sampling) -> list[Dialogue]:
        """Replies to `messages` in which the toolbox's tools are called and answer."""
        engine = Engine(self.model, self.tokenizer.stop_ids, self.tokenizer.pad_id, self.max_slots)
        prompts = [prompt_ids(self.tokenizer, row["messages"], toolbox.definitions) for row in rows]
        requests = [
            Request(prompt, sampling, seed_of(row["id"]), str(row["id"]))
            for row, prompt in zip(rows, prompts, strict=True)
        ]
        return run_dialogues(engine, self.tokenizer, toolbox, requests)

    def complete(self, rows: Sequence[Row], max_tokens: int, temperature: float = 0.0) -> list[Answer]:
        """Continuations of `prompt` as the beginning of a document; greedy without a temperature."""
        prompts = [self.document(row["prompt"]) for row in rows]
        return self._generate(rows, prompts, Sampling(max_tokens, temperature), [self.tokenizer.eos_id])

    def choose(self, rows: Sequence[Row]) -> list[int]:
        """The likeliest of each row's `options` after its `prompt` (none: as a whole document)."""
        completions, owners = [], []
        for number, row in enumerate(rows):
            prompt = self.document(row.get("prompt", ""))
            for option in row["options"]:
                completions.append(Completion([*prompt, *self.tokenizer.encode(option)], len(prompt)))
                owners.append(number)
        scores: list[list[float]] = [[] for _ in rows]
        for owner, logprob in zip(owners, self.logprobs(completions), strict=True):
            scores[owner].append(logprob)
        return likeliest(scores)

    def logprobs(self, completions: Sequence[Completion]) -> list[float]:
        """Σ log P of each completion's tokens."""
        sums: list[float] = sequence_logprobs(self.model, completions, self.tokenizer.pad_id).tolist()
        return sums

    def document(self, text: str) -> list[int]:
        """Token ids of a text as the beginning of a document."""
        return [self.tokenizer.bos_id, *self.tokenizer.encode(text)]

    def _generate(
        self,
        rows: Sequence[Row],
        prompts: Sequence[list[int]],
        sampling: Sampling,
        stop_ids: Sequence[int],
        steering: Sequence[Steering | None] = (),
    ) -> list[Answer]:
        engine = Engine(self.model, stop_ids, self.tokenizer.pad_id, self.max_slots)
        requests = [
            Request(prompt, sampling, seed_of(row["id"]), str(row["id"]), steering=steered)
            for row, prompt, steered in zip(rows, prompts, steering or [None] * len(rows), strict=True)
        ]
        replies = engine.generate(requests)
        return [self._answer(prompt, reply) for prompt, reply in zip(prompts, replies, strict=True)]

    def _answer(self, prompt: list[int], reply: Reply) -> Answer:
        text = self.tokenizer.decode(reply.ids)
        finished = reply.ends_with(self.tokenizer.end_of_turn_id)
        return Answer(text, finished, Completion([*prompt, *reply.ids], len(prompt)), tuple(reply.logprobs))


def at_hand(subject: Measured) -> Subject:
    """The model itself. Raises NotOfferedError where only a server has it."""
    if not isinstance(subject, Subject):
        raise NotOfferedError(f"{subject.label}: this is measured on models at hand, not on those of a server")
    return subject


def completions_of(answers: Sequence[Answer]) -> list[Completion]:
    """The tokens of the answers; none of those whose tokens are not known."""
    return [answer.completion for answer in answers if answer.completion is not None]


def likeliest(options: Sequence[Sequence[float]]) -> list[int]:
    """Of each row's log-probs the number of the greatest; the first of equal ones."""
    return [max(range(len(row)), key=row.__getitem__) for row in options]


def seed_of(name: str) -> int:
    """The seed of an item's random numbers."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
