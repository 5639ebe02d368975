"""Our own client of servers against our own server: the replies and scores of the engine in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from serve.live import CONTEXT, Running, running
from tutelage.data.completions import prompt_ids
from tutelage.generation import server as connections
from tutelage.generation.engine import Engine, Request
from tutelage.generation.sampling import Sampling
from tutelage.run.artifacts import ArtifactType
from tutelage.run.stage import StageRun
from tutelage.serve.models import Limits
from tutelage.sources.store import read_jsonl
from tutelage.stages import evaluate, sample
from tutelage.stages.configs import EvaluateConfig, SampleConfig


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(connections, "LONGEST_WAIT", 0.02)


def draw(folder: Path, url: str, **engine: Any) -> list[dict[str, Any]]:
    run = tiny.stage_run(folder / "out")
    settings: dict[str, Any] = {"num_replies": 3, "max_tokens": 8, "top_k": 30, "stop": ["a"]}
    config = SampleConfig(prompts="", engine={"url": url, "model": "instruct", **engine}, **settings)
    sample.run(config, {"prompts": tiny.prompts_artifact(folder / "p")}, run)
    return list(read_jsonl(run.directory / "completions.jsonl"))


def test_a_stage_draws_the_replies_of_the_engine_here(server: Running, tmp_path: Path) -> None:
    own = tiny.tokenizer()
    model = tiny.model(0, vocab_size=own.vocab_size, max_position_embeddings=CONTEXT)
    engine = Engine(model, own.stop_ids, own.pad_id, tokenizer=own)
    for row in draw(tmp_path, server.url):
        ids, seed = prompt_ids(own, row["prompt"]), row["sampling"]["seed"]
        sampling = Sampling(8, row["sampling"]["temperature"], 30)
        [reply] = engine.generate([Request(ids, sampling, seed, stop_strings=["a"])])
        assert (row["completion"], row["num_tokens"]) == (reply.text, len(reply.ids))
        assert row["finish_reason"] == reply.finish_reason


def test_a_server_that_is_full_is_asked_again(tmp_path: Path) -> None:
    with running(tmp_path / "served", Limits(slots=1, waiting=0)) as small:
        rows = draw(tmp_path, small.url, concurrency=6, attempts=200)
    assert len(rows) == 3 * len(tiny.CITIES)


def measured(folder: Path, **settings: Any) -> tuple[StageRun, dict[str, float]]:
    items: list[dict[str, Any]] = []
    for country, city in tiny.CITIES.items():
        text = {"kind": "fact", "prompt": f"The capital of {country} is", "answer": city}
        options = {"options": [" Paris.", " Rome.", " Lima."], "answer": " Rome."}
        chat = {"kind": "fact", "messages": tiny.question(country), "answer": city}
        items += [
            {"id": f"f{city}", "task": "chat_facts", **chat},
            {"id": f"c{city}", "task": "completion_facts", **text},
            {"id": f"g{city}", "task": "grammar", **text, **options},
            {"id": f"t{city}", "task": "tool_none", **chat, "meta": {"tools": []}},
        ]
    run = tiny.stage_run(folder / "out")
    inputs = {
        "tasks": tiny.jsonl_artifact(ArtifactType.TASKS, folder / "tasks" / "tasks.jsonl", items),
        "models.here": tiny.model_artifact(folder / "m", 0, max_position_embeddings=CONTEXT),
    }
    evaluate.run(EvaluateConfig(tasks="", max_tokens=8, **settings), inputs, run)
    rows = json.loads((run.directory / "results.json").read_text())
    return run, {f"{row['model']}/{row['task']}/{row['metric']}": row["value"] for row in rows}


def test_an_evaluation_over_http_gives_the_scores_of_the_model_here(server: Running, tmp_path: Path) -> None:
    served = {"far": {"url": server.url, "model": "instruct"}}
    run, found = measured(tmp_path, models={"here": ""}, servers=served)
    far = {name.removeprefix("far/"): value for name, value in found.items() if name.startswith("far/")}
    here = {name.removeprefix("here/"): value for name, value in found.items() if name.startswith("here/")}
    assert {name.split("/")[0] for name in set(here) - set(far)} == {"tool_none"}
    assert far == {name: here[name] for name in far}
    assert {"chat_facts/accuracy", "completion_facts/accuracy", "grammar/accuracy"} <= set(far)
    assert any("far: tool_none is not measured" in note for note in run.notes)


def test_somebody_is_evaluated_once() -> None:
    with pytest.raises(ValueError, match="label of its own"):
        EvaluateConfig()
    with pytest.raises(ValueError, match="label of its own"):
        EvaluateConfig(models={"a": "b"}, servers={"a": {"model": "b"}})
