"""Who writes, and what is put before them: examples as far as there is room, then the request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from itertools import islice
from typing import Any

from tutelage.generation.remote import Answer, Ask
from tutelage.generation.sampling import Sampling
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl
from tutelage.stages.configs import SynthesizeConfig
from tutelage.stages.constitutional.writers import Writer, open_writer
from tutelage.stages.models import run_dtype
from tutelage.stages.sample import request_seed
from tutelage.stages.synthesis.drafts import Draft, Messages, turns
from tutelage.stages.synthesis.requests import request
from tutelage.stages.synthesis.sources import instructions_of

ANSWERS = frozenset({"answer", "open_answer", "output", "reply"})  # steps of the answerer; all others are the writer's
Fields = Mapping[str, str]


class Studio:
    """The writer and the answerer with their examples; counts what they were asked and wrote."""

    def __init__(self, config: SynthesizeConfig, inputs: Inputs, run: StageRun) -> None:
        self.config, self.run = config, run
        dtype = run_dtype(config.precision, run)
        self.writer = open_writer(inputs.get("model"), config.engine, dtype, config.max_slots)
        self.answerer = self.writer
        if "answerer" in inputs or config.answer_engine is not None:
            self.answerer = open_writer(inputs.get("answerer"), config.answer_engine, dtype, config.max_slots)
        self.examples = _examples(inputs, config.num_examples)
        self.seeds = instructions_of(inputs["seeds"]) if "seeds" in inputs else []
        self.kept: list[Draft] = []
        self.requests = self.tokens = self.uncounted = self.without_room = self.lots = 0

    def said_of(self, parent: str | None = None) -> list[str]:
        """The keys of the rows kept so far, of one parent or of all."""
        return [draft.key for draft in self.kept if parent in (None, draft.parent.id)]

    def ask(self, step: str, jobs: Sequence[tuple[Draft, Fields]], again: str = "") -> list[str]:
        """The replies of one step; a draft whose reply is empty, cut off or not asked for is marked so."""
        return self.say(step, [(draft, turns(request(step, **fields))) for draft, fields in jobs], again)

    def say(self, step: str, jobs: Sequence[tuple[Draft, Messages]], again: str = "") -> list[str]:
        """The same with messages instead of fields; `again` tells a second reply from the first."""
        writer = self.answerer if step in ANSWERS else self.writer
        asks = [self._ask(step, draft, messages, writer, again) for draft, messages in jobs]
        wanted = [ask for ask in asks if ask is not None]
        self.lots += 1
        label = f"{self.lots:02d} {again or step}".replace("_", " ")
        answers: Iterator[list[Answer]] = iter(writer.write(wanted, self.run, label) if wanted else [])
        texts = []
        for (draft, _), ask in zip(jobs, asks, strict=True):
            if ask is None:
                draft.check("fits", 0.0, False)
                texts.append("")
                continue
            [answer] = next(answers)
            draft.took(again or step, ask, answer, (writer.name, writer.fingerprint))
            ended = answer.finish_reason == "stop" and bool(answer.text)
            if not ended:
                draft.check("finished", answer.finish_reason if answer.text else "empty", False)
            texts.append(answer.text)
            self.tokens += answer.num_tokens or 0
            self.uncounted += answer.num_tokens is None
        self.requests += len(wanted)
        self.without_room += len(asks) - len(wanted)
        return texts

    def _ask(self, step: str, draft: Draft, messages: Messages, writer: Writer, again: str) -> Ask | None:
        """The request with as many examples as there is room for; None where it does not fit by itself."""
        config = self.config
        temperature = config.answer_temperature if step in ANSWERS and not again else config.temperature
        sampling = Sampling(config.max_tokens, temperature, top_p=config.top_p, min_p=config.min_p)
        examples = self.examples.get(step, [])
        for count in range(len(examples), -1, -1):
            shown = [message for example in examples[:count] for message in example] + messages
            if writer.fits(shown, config.max_tokens):
                return Ask(shown, sampling, request_seed(draft.seed, step, again, len(draft.steps)), name=draft.id)
        return None


def _examples(inputs: Inputs, count: int) -> dict[str, list[Messages]]:
    """`count` examples of each step: of the input `examples`, by their tags, or those that come with the code."""
    found: dict[str, list[Messages]] = {}
    if not count:
        return found
    if "examples" in inputs:
        for row in read_jsonl(inputs["examples"].path / "conversations.jsonl"):
            for tag in row.get("tags", []):
                found.setdefault(tag, []).append(row["messages"])
    else:
        text = resources.files("tutelage.stages.synthesis").joinpath("examples.json").read_text(encoding="utf-8")
        table: dict[str, list[dict[str, Any]]] = json.loads(text)
        for step, rows in table.items():
            found[step] = [turns(request(step, **row["fields"]), row["reply"]) for row in rows]
    return {step: list(islice(rows, count)) for step, rows in found.items()}
