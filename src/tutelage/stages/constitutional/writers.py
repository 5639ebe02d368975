"""Who writes critiques and revisions: a model of ours in this process, or a server of the OpenAI protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import torch

from tutelage.data.completions import prompt_ids
from tutelage.data.tokenizer import TextTokenizer
from tutelage.generation.engine import Engine, Request
from tutelage.generation.remote import SEEDS, Answer, Ask, RemoteEngine
from tutelage.generation.server import Server
from tutelage.model.transformer import CausalLM
from tutelage.run.artifacts import Artifact
from tutelage.run.stage import StageRun
from tutelage.stages.alignment.answers import answers_of
from tutelage.stages.models import open_model
from tutelage.stages.replying.settings import ServerSettings
from tutelage.stages.sample import request_seed

Messages = Sequence[dict[str, str]]


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
        """Decode all answers of all chats together."""
        requests = []
        for ask in asks:
            ids = prompt_ids(self.tokenizer, ask.messages)
            requests += [
                Request(ids, ask.sampling, request_seed(ask.seed, number), ask.name) for number in range(ask.count)
            ]
        engine = Engine(self.model, self.tokenizer.stop_ids, self.tokenizer.pad_id, self.max_slots)
        with run.progress(label, len(requests)) as bar:
            replies = iter(engine.generate(requests, on_reply=lambda _, reply: bar.advance(1)))
        ended = self.tokenizer.end_of_turn_id

        def answer() -> Answer:
            reply = next(replies)
            reason = "stop" if reply.ends_with(ended) else "length"
            return Answer(self.tokenizer.decode(reply.ids).strip(), reason, len(reply.ids))

        return [[answer() for _ in range(ask.count)] for ask in asks]


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
        answers = iter(
            answers_of(RemoteEngine(server), known, run, f"{label.replace(', ', '-').replace(' ', '-')}.jsonl", label)
        )
        return [[replace(answer, text=answer.text.strip()) for answer in islice(answers, ask.count)] for ask in known]


def open_writer(artifact: Artifact | None, engine: ServerSettings | None, dtype: torch.dtype, max_slots: int) -> Writer:
    """The server if there is one, else the model."""
    if engine is not None:
        return ServedWriter(engine.model, artifact.fingerprint if artifact else "", engine)
    assert artifact is not None, "checked in the configuration"
    return ModelWriter.open(artifact, dtype, max_slots)
