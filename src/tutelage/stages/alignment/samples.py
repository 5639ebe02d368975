"""Replies to the same few prompts while a model is trained: what its numbers mean, to be read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tutelage.data.completions import prompt_ids
from tutelage.data.tokenizer import TextTokenizer
from tutelage.generation.engine import Engine, Request
from tutelage.generation.sampling import Sampling
from tutelage.generation.tool_loop import run_dialogues
from tutelage.model.transformer import CausalLM
from tutelage.run.stage import StageRun
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.tools.toolbox import Toolbox
from tutelage.training.loop import Evaluate

SAMPLES = "samples.jsonl"
MAX_TOKENS = 64


@dataclass(frozen=True)
class Samples:
    """Keeps replies by step; rows are `{step, prompt_id, prompt, completion, finish_reason}`.

    They are gathered in `run.scratch`, which survives a kill. Every row has one random stream, whatever the step.
    """

    model: CausalLM
    tokenizer: TextTokenizer
    prompts: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]  # id, messages
    run: StageRun
    max_tokens: int = MAX_TOKENS
    temperature: float = 0.0
    toolbox: Toolbox | None = None

    def keep(self, step: int) -> None:
        """Reply to all prompts as the model is now; what was kept of this step or a later one is replaced."""
        path = self.run.scratch / SAMPLES
        before = [row for row in read_jsonl(path) if row["step"] < step] if path.exists() else []
        self.run.scratch.mkdir(parents=True, exist_ok=True)
        write_jsonl(path, [*before, *self._rows(step)])

    def beginning(self) -> None:
        """Keep what the model says before the first step; a run that goes on has done so."""
        if self.prompts and not (self.run.scratch / SAMPLES).exists():
            self.keep(0)

    def beside(self, evaluate: Evaluate | None) -> Evaluate | None:
        """An evaluation that keeps samples too."""
        if not self.prompts:
            return evaluate

        def both(step: int) -> Mapping[str, float]:
            self.keep(step)
            return {} if evaluate is None else evaluate(step)

        return both

    def publish(self) -> None:
        """Put the file beside the model."""
        if self.prompts:
            shutil.copyfile(self.run.scratch / SAMPLES, self.run.directory / SAMPLES)

    @torch.no_grad()
    def _rows(self, step: int) -> list[dict[str, Any]]:
        sampling = Sampling(self.max_tokens, self.temperature)
        definitions = self.toolbox.definitions if self.toolbox else None
        requests = [
            Request(prompt_ids(self.tokenizer, messages, definitions), sampling, place, name)
            for place, (name, messages) in enumerate(self.prompts)
        ]
        engine = Engine(self.model, self.tokenizer.stop_ids, self.tokenizer.pad_id, max(1, len(requests)))
        return [
            {"step": step, "prompt_id": name, "prompt": messages, "completion": text, "finish_reason": reason}
            for (name, messages), (text, reason) in zip(self.prompts, self._said(engine, requests), strict=True)
        ]

    def _said(self, engine: Engine, requests: Sequence[Request]) -> list[tuple[str, str]]:
        """Each reply's text (with tools: the answer after the calls) and why it ended."""
        if self.toolbox is not None:
            dialogues = run_dialogues(engine, self.tokenizer, self.toolbox, requests)
            return [(dialogue.text, "stop" if dialogue.ending == "stop" else "length") for dialogue in dialogues]
        end = self.tokenizer.end_of_turn_id
        replies = engine.generate(requests)
        return [(self.tokenizer.decode(r.ids), "stop" if r.ends_with(end) else "length") for r in replies]


def first_prompts(
    rows: Sequence[Mapping[str, Any]], count: int, messages: Callable[[Mapping[str, Any]], Any]
) -> list[tuple[str, Sequence[Mapping[str, Any]]]]:
    """Id and messages of the first `count` rows with different prompts."""
    found: dict[str, tuple[str, Sequence[Mapping[str, Any]]]] = {}
    for place, row in enumerate(rows):
        if len(found) == count:
            break
        found.setdefault(repr(messages(row)), (str(row.get("id", place)), messages(row)))
    return list(found.values())
