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
from tutelage.errors import DataError
from tutelage.generation.engine import Engine, Request
from tutelage.generation.remote import SEEDS, Ask, RemoteEngine
from tutelage.generation.sampling import Sampling
from tutelage.generation.server import Server
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.stages.alignment.answers import answers_of
from tutelage.stages.configs import SampleConfig, ServerSettings
from tutelage.stages.models import open_model, run_dtype

Prompts = Sequence[Mapping[str, Any]]


class Said(NamedTuple):
    """A reply as it is written down, with the seed that it was drawn with."""

    text: str
    finish_reason: str
    num_tokens: int | None
    seed: int


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
                "sampling": {**vars(sampling), **({"stop": config.stop} if config.stop else {}), "seed": reply.seed},
                "model": model,
            }

    run.metrics["num_replies"] = write_jsonl(run.directory / "completions.jsonl", rows())
    run.metrics["finished"] = sum(reply.finish_reason == "stop" for reply in replies) / len(replies)
    if run.metrics["finished"] < 0.8:
        run.notes.append(
            f"only {run.metrics['finished']:.0%} of the replies end within max_tokens = {config.max_tokens}"
        )


def _decoded(config: SampleConfig, sampling: Sampling, prompts: Prompts, inputs: Inputs, run: StageRun) -> list[Said]:
    """Replies of a model of ours; each has a seed of its own."""
    model, tokenizer = open_model(inputs["model"], run_dtype(config.precision, run))
    requests = [
        Request(
            prompt_ids(tokenizer, prompt["messages"]),
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
        replies = engine.generate(requests, on_reply=lambda _, reply: bar.advance(1))
    found = []
    for request, reply in zip(requests, replies, strict=True):
        text = tokenizer.decode(reply.ids) if reply.text is None else reply.text
        ended = reply.ends_with(tokenizer.end_of_turn_id) or (config.stop and reply.finish_reason == "stop")
        found.append(Said(text, "stop" if ended else "length", len(reply.ids), request.seed))
    return found


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
