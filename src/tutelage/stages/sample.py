"""Sampling: K replies to every prompt, to be ranked by people, by a judge, or by the simulated annotator."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from tutelage.data.completions import prompt_ids
from tutelage.errors import DataError
from tutelage.generation.engine import Engine, Reply, Request
from tutelage.generation.sampling import Sampling
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.stages.configs import SampleConfig
from tutelage.stages.models import open_model, run_dtype


def request_seed(seed: int, *parts: object) -> int:
    """A seed for one request, from names and numbers that identify it."""
    digest = hashlib.sha256(json.dumps([seed, *parts]).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def run(config: SampleConfig, inputs: Inputs, run: StageRun) -> None:
    """Draw `num_replies` completions for every prompt."""
    model, tokenizer = open_model(inputs["model"], run_dtype(config.precision, run))
    prompts = list(read_jsonl(inputs["prompts"].path / "prompts.jsonl"))[: config.limit]
    if not prompts:
        raise DataError(f"{inputs['prompts'].name} has no prompts", hint="look at the stage that makes them")
    sampling = Sampling(
        config.max_tokens, config.temperature, top_k=config.top_k, top_p=config.top_p, min_p=config.min_p
    )
    requests = [
        Request(
            prompt_ids(tokenizer, prompt["messages"]),
            sampling,
            request_seed(run.seed, prompt["id"], number),
            prompt["id"],
        )
        for prompt in prompts
        for number in range(config.num_replies)
    ]
    engine = Engine(model, tokenizer.stop_ids, tokenizer.pad_id, config.max_slots)
    with run.progress("sample", len(requests)) as bar:
        replies = engine.generate(requests, on_reply=lambda _, reply: bar.advance(1))

    def rows() -> Iterator[dict[str, Any]]:
        for index, (request, reply) in enumerate(zip(requests, replies, strict=True)):
            prompt = prompts[index // config.num_replies]
            yield {
                "id": f"{prompt['id']}/{index % config.num_replies}",
                "prompt_id": prompt["id"],
                "prompt": prompt["messages"],
                "kind": prompt["kind"],
                "answer": prompt.get("answer"),
                "meta": prompt.get("meta", {}),
                "completion": tokenizer.decode(reply.ids),
                "finish_reason": "stop" if reply.ends_with(tokenizer.end_of_turn_id) else "length",
                "num_tokens": len(reply.ids),
                "sampling": {**vars(sampling), "seed": request.seed},
                "model": inputs["model"].name,
            }

    run.metrics["num_replies"] = write_jsonl(run.directory / "completions.jsonl", rows())
    run.metrics["finished"] = _share_finished(replies, tokenizer.end_of_turn_id)
    if run.metrics["finished"] < 0.8:
        run.notes.append(
            f"only {run.metrics['finished']:.0%} of the replies end within max_tokens = {config.max_tokens}"
        )


def _share_finished(replies: list[Reply], end_of_turn_id: int) -> float:
    return sum(reply.ends_with(end_of_turn_id) for reply in replies) / len(replies)
