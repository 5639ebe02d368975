"""Who writes critiques and revisions: a model of ours in this process, or a server of the OpenAI protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import torch

from tutelage.data.completions import prompt_ids
from tutelage.data.tokenizer import TextTokenizer
from tutelage.generation.engine import Engine, Reply, Request
from tutelage.generation.remote import SEEDS, Answer, Ask, RemoteEngine
from tutelage.generation.server import Server
from tutelage.model.transformer import CausalLM
from tutelage.run.artifacts import Artifact
from tutelage.run.stage import StageRun
from tutelage.stages.alignment.answers import answers_of, kept_answers
from tutelage.stages.models import open_model
from tutelage.stages.replying.settings import ServerSettings
from tutelage.stages.sample import request_seed

Messages = Sequence[dict[str, str]]
LOTS = 4  # slots' worth of replies that are decoded before they are kept


class Writer(Protocol):
    """Answers chats. `name` and `fingerprint` are written into everything that came of it."""

    name: str
    fingerprint: str

    def fits(self, messages: Messages, max_tokens: int) -> bool:
        """Whether there is room for these messages and a reply of this length."""

    def write(self, asks: Sequence[Ask], run: StageRun, label: str) -> list[list[Answer]]:
        """`count` answers to each chat, in order; `label` names the lot, and is not used twice in a run."""


@dataclass
class ModelWriter:
    """A model of ours; every answer has random numbers of its own."""

    name: str
    fingerprint: str
    model: CausalLM
    tokenizer: TextTokenizer
    max_slots: int

    @classmethod
    def open(cls, artifact: Artifact, dtype: torch.dtype, max_slots: int) -> ModelWriter:
        """The model of an artifact."""
        model, tokenizer = open_model(artifact, dtype)
        return cls(artifact.name, artifact.fingerprint, model.eval(), tokenizer, max_slots)

    def fits(self, messages: Messages, max_tokens: int) -> bool:
        """Counts tokens."""
        return len(prompt_ids(self.tokenizer, messages)) + max_tokens <= self.model.config.max_position_embeddings

    def write(self, asks: Sequence[Ask], run: StageRun, label: str) -> list[list[Answer]]:
        """Decode all answers of all chats; they are kept lot by lot, so that a killed stage goes on."""
        answers = iter(kept_answers(self._answers, asks, run, _file(label), label))
        return [list(islice(answers, ask.count)) for ask in asks]

    def _answers(self, asks: Sequence[Ask]) -> Iterator[tuple[int, list[Answer]]]:
        """Lot after lot, each large enough that hardly a slot stands empty."""
        engine = Engine(self.model, self.tokenizer.stop_ids, self.tokenizer.pad_id, self.max_slots)
        start = 0
        while start < len(asks):
            end, size = start, 0
            while end < len(asks) and size < LOTS * self.max_slots:
                size += asks[end].count
                end += 1
            lot = asks[start:end]
            replies = iter(engine.generate([request for ask in lot for request in self._requests(ask)]))
            for place, ask in enumerate(lot, start=start):
                yield place, [self._answer(next(replies)) for _ in range(ask.count)]
            start = end

    def _requests(self, ask: Ask) -> list[Request]:
        ids = prompt_ids(self.tokenizer, ask.messages)
        return [Request(ids, ask.sampling, request_seed(ask.seed, number), ask.name) for number in range(ask.count)]

    def _answer(self, reply: Reply) -> Answer:
        reason = "stop" if reply.ends_with(self.tokenizer.end_of_turn_id) else "length"
        return Answer(self.tokenizer.decode(reply.ids).strip(), reason, len(reply.ids))


@dataclass
class ServedWriter:
    """A model that is served; `fingerprint` is that of the artifact named beside the engine, if one is."""

    name: str
    fingerprint: str
    settings: ServerSettings

    def fits(self, messages: Messages, max_tokens: int) -> bool:
        """The server knows its own limits, and says so."""
        return True

    def write(self, asks: Sequence[Ask], run: StageRun, label: str) -> list[list[Answer]]:
        """Ask the server; answers are kept as they arrive, so that a killed stage asks only for what is missing."""
        known = [replace(ask, seed=ask.seed % SEEDS) for ask in asks]
        server = Server(**self.settings.model_dump(exclude={"n"}))
        answers = iter(answers_of(RemoteEngine(server), known, run, _file(label), label))
        return [[replace(answer, text=answer.text.strip()) for answer in islice(answers, ask.count)] for ask in known]


def _file(label: str) -> str:
    return f"{label.replace(', ', '-').replace(' ', '-')}.jsonl"


def open_writer(artifact: Artifact | None, engine: ServerSettings | None, dtype: torch.dtype, max_slots: int) -> Writer:
    """The server if there is one, else the model."""
    if engine is not None:
        return ServedWriter(engine.model, artifact.fingerprint if artifact else "", engine)
    assert artifact is not None, "checked in the configuration"
    return ModelWriter.open(artifact, dtype, max_slots)
