"""Sampling: K replies to every prompt, to be ranked by people, by a judge, or by the simulated annotator.

A model of ours replies in this process, or a server of the OpenAI protocol does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from tutelage.data.completions import prompt_ids
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import DataError
from tutelage.generation.engine import Engine, Request
from tutelage.generation.remote import SEEDS, Ask, RemoteEngine
from tutelage.generation.sampling import Sampling
from tutelage.generation.server import Server
from tutelage.generation.tool_loop import run_dialogues
from tutelage.run.stage import Inputs, ProgressBar, StageRun
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.stages.alignment.answers import answers_of
from tutelage.stages.configs import SampleConfig, ServerSettings
from tutelage.stages.models import open_model, run_dtype
from tutelage.stages.replying.guarding import guarded
from tutelage.stages.replying.inputs import tools_of
from tutelage.tools.calls import BadCall, ToolCall
from tutelage.tools.toolbox import Toolbox

Prompts = Sequence[Mapping[str, Any]]


class Said(NamedTuple):
    """A reply as it is written down, with the seed that it was drawn with, and its turns if it may call tools."""

    text: str
    finish_reason: str
    num_tokens: int | None
    seed: int
    turns: list[dict[str, Any]] | None = None


def request_seed(seed: int, *parts: object) -> int:
    """A seed for one request, from names and numbers that identify it."""
    digest = hashlib.sha256(json.dumps([seed, *parts]).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def run(config: SampleConfig, inputs: Inputs, run: StageRun) -> None:
    """Draw `num_replies` completions for every prompt."""
    prompts = list(read_jsonl(inputs["prompts"].path / "prompts.jsonl"))[: config.limit]
    if not prompts:
        raise DataError(f"{inputs['prompts'].name} has no prompts", hint="look at the stage that makes them")
    sampling = Sampling(
        config.max_tokens, config.temperature, top_k=config.top_k, top_p=config.top_p, min_p=config.min_p
    )
    if config.engine is None:
        replies = _decoded(config, sampling, prompts, inputs, run)
    else:
        replies = _asked(config, config.engine, sampling, prompts, run)
    if config.guard == "pii":
        replies = _guarded(replies, prompts, config.num_replies, run)
    model = inputs["model"].name if "model" in inputs else config.engine.model if config.engine else ""

    def rows() -> Iterator[dict[str, Any]]:
        for index, reply in enumerate(replies):
            prompt = prompts[index // config.num_replies]
            yield {
                "id": f"{prompt['id']}/{index % config.num_replies}",
                "prompt_id": prompt["id"],
                "prompt": prompt["messages"],
                "kind": prompt["kind"],
                "answer": prompt.get("answer"),
                "meta": prompt.get("meta", {}),
                "completion": reply.text,
                "finish_reason": reply.finish_reason,
                "num_tokens": reply.num_tokens,
                **({} if reply.turns is None else {"turns": reply.turns}),
                "sampling": {**vars(sampling), **({"stop": config.stop} if config.stop else {}), "seed": reply.seed},
                "model": model,
            }

    run.metrics["num_replies"] = write_jsonl(run.directory / "completions.jsonl", rows())
    run.metrics["finished"] = sum(reply.finish_reason == "stop" for reply in replies) / len(replies)
    if run.metrics["finished"] < 0.8:
        run.notes.append(
            f"only {run.metrics['finished']:.0%} of the replies end within max_tokens = {config.max_tokens}"
        )


def _guarded(replies: Sequence[Said], prompts: Prompts, num_replies: int, run: StageRun) -> list[Said]:
    """The replies with their private strings masked; how many there were is a metric."""
    clean, counts = [], []
    for index, reply in enumerate(replies):
        text, turns, count = guarded(reply.text, reply.turns, prompts[index // num_replies]["messages"])
        clean.append(reply._replace(text=text, turns=turns))
        counts.append(count)
    run.metrics["pii/masked"] = sum(counts)
    run.metrics["pii/rate"] = sum(map(bool, counts)) / len(counts)
    return clean


def _decoded(config: SampleConfig, sampling: Sampling, prompts: Prompts, inputs: Inputs, run: StageRun) -> list[Said]:
    """Replies of a model of ours; each has a seed of its own."""
    model, tokenizer = open_model(inputs["model"], run_dtype(config.precision, run))
    toolbox = tools_of(config, inputs)
    definitions = toolbox.definitions if toolbox else None
    requests = [
        Request(
            prompt_ids(tokenizer, prompt["messages"], definitions),
            sampling,
            request_seed(run.seed, prompt["id"], number),
            prompt["id"],
            stop_strings=config.stop,
        )
        for prompt in prompts
        for number in range(config.num_replies)
    ]
    engine = Engine(model, tokenizer.stop_ids, tokenizer.pad_id, config.max_slots, tokenizer)
    with run.progress("sample", len(requests)) as bar:
        if toolbox is not None:
            return _with_tools(engine, tokenizer, toolbox, requests, config.max_rounds, run, bar)
        replies = engine.generate(requests, on_reply=lambda _, reply: bar.advance(1))
    found = []
    for request, reply in zip(requests, replies, strict=True):
        text = tokenizer.decode(reply.ids) if reply.text is None else reply.text
        ended = reply.ends_with(tokenizer.end_of_turn_id) or (config.stop and reply.finish_reason == "stop")
        found.append(Said(text, "stop" if ended else "length", len(reply.ids), request.seed))
    return found


def _with_tools(
    engine: Engine,
    tokenizer: TextTokenizer,
    toolbox: Toolbox,
    requests: Sequence[Request],
    max_rounds: int,
    run: StageRun,
    bar: ProgressBar,
) -> list[Said]:
    """Replies in which tools are called; how many calls there were, and how many could not be run, are metrics."""
    dialogues = run_dialogues(engine, tokenizer, toolbox, requests, max_rounds, lambda *ended: bar.advance(1))
    calls = [call for dialogue in dialogues for call in dialogue.calls]
    run.metrics["tools/calls"] = len(calls)
    run.metrics["tools/malformed"] = sum(isinstance(call, BadCall) for call in calls)
    run.metrics["tools/mended"] = sum(isinstance(call, ToolCall) and bool(call.repairs) for call in calls)
    run.metrics["tools/failed"] = sum(r.failed for d in dialogues for step in d.steps for r in step.results)
    return [
        Said(
            dialogue.text,
            "stop" if dialogue.ending == "stop" else "length",
            sum(dialogue.written),
            request.seed,
            dialogue.messages(),
        )
        for dialogue, request in zip(dialogues, requests, strict=True)
    ]


def _asked(
    config: SampleConfig, settings: ServerSettings, sampling: Sampling, prompts: Prompts, run: StageRun
) -> list[Said]:
    """Replies of a server; those of one request share its seed."""
    asks = [
        Ask(
            prompt["messages"],
            sampling,
            request_seed(run.seed, prompt["id"], first) % SEEDS,
            min(settings.n, config.num_replies - first),
            str(prompt["id"]),
            config.stop,
        )
        for prompt in prompts
        for first in range(0, config.num_replies, settings.n)
    ]
    server = Server(**settings.model_dump(exclude={"n"}))
    answers = answers_of(RemoteEngine(server), asks, run)
    seeds = [ask.seed for ask in asks for _ in range(ask.count)]
    return [Said(**asdict(answer), seed=seed) for answer, seed in zip(answers, seeds, strict=True)]
