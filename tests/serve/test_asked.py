"""Stages that ask a server, asked of ours over HTTP: what they write is what a model in this process gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.testing import assert_close

from serve.live import Running, running
from tiny import CITIES, artifact, jsonl_artifact, prompts_artifact, question, stage_run
from tutelage.data.completions import Completion, prompt_ids
from tutelage.errors import DataError, ResourceError
from tutelage.evaluation.harness import Subject
from tutelage.generation.asking import OptionsAsk, likelihoods, offers
from tutelage.generation.engine import Request
from tutelage.generation.remote import RemoteEngine
from tutelage.generation.sampling import Sampling
from tutelage.generation.server import Server
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.stage import Inputs, StageRun
from tutelage.serve.keys import add_key, read_keys
from tutelage.serve.models import Limits
from tutelage.sources.store import read_jsonl
from tutelage.stages import evaluate, sample
from tutelage.stages.configs import EvaluateConfig, SampleConfig

TOOL = {
    "type": "function",
    "function": {"name": "look_up", "description": "", "parameters": {"type": "object", "properties": {}}},
}
CHATS = ("chat_facts", "harmful", "tool_choice", "preference", "showcase")


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def tasks_artifact(folder: Path) -> Artifact:
    """Every way of asking: chat, a turn with tools, going on with a text, the likeliest option."""
    rows: list[dict[str, Any]] = []
    for country, city in CITIES.items():
        chat = {"messages": question(country), "answer": city, "kind": "fact"}
        for task in ("chat_facts", "harmful", "preference", "showcase"):
            rows.append({"id": f"{task}/{country}", "task": task, **chat})
        text = {"prompt": f"The capital of {country} is", "answer": city, "kind": "fact"}
        rows.append({"id": f"c/{country}", "task": "completion_facts", **text})
        options = [f" {other}." for other in CITIES.values()]
        rows.append({"id": f"r/{country}", "task": "reasoning", **text, "answer": f" {city}.", "options": options})
        whole = [f"{city} is a city.", f"{city} it is a."]
        rows.append({"id": f"g/{country}", "task": "grammar", "kind": "g", "answer": whole[0], "options": whole})
        meta = {"tools": [TOOL], "calls": [{"name": "look_up", "arguments": {}}]}
        rows.append({"id": f"t/{country}", "task": "tool_choice", **chat, "meta": meta})
    return jsonl_artifact(ArtifactType.TASKS, folder / "tasks.jsonl", rows)


def local(server: Running, name: str) -> Artifact:
    return artifact(ArtifactType.MODEL, server.models.get(name).place.path)


def measured(folder: Path, server: Running, name: str, **changes: Any) -> StageRun:
    """The same model here and there."""
    run = stage_run(folder / "out")
    settings = {"max_tokens": 8, "preference_temperature": 0.0, "reference": "here", **changes}
    engine = {"url": server.url, "model": name, "concurrency": 4}
    config = EvaluateConfig(models={"here": ""}, engines={"there": engine}, tasks="", **settings)
    inputs: Inputs = {"models.here": local(server, name), "tasks": tasks_artifact(folder / "tasks")}
    evaluate.run(config, inputs, run)
    return run


def test_a_served_model_is_measured_as_the_same_model_here(tmp_path: Path, server: Running) -> None:
    run = measured(tmp_path, server, "instruct")
    here = {name.partition("/")[2]: value for name, value in run.metrics.items() if name.startswith("here/")}
    here = {name: value for name, value in here.items() if "/guided/" not in name}  # the server guides all calls
    there = {name.partition("/")[2]: value for name, value in run.metrics.items() if name.startswith("there/")}
    assert here == there | {"preference/win_rate": 0.5}
    assert there["preference/win_rate"] == 0.5  # the same replies, so only ties
    assert {name.split("/")[0] for name in there} >= {*CHATS[:4], "completion_facts", "reasoning", "grammar", "format"}
    samples = (run.directory / "samples.json").read_text()
    assert '"there"' in samples
    assert run.notes[-1] == "there: without KL from the reference, for which the weights are needed"


def test_what_a_base_model_does_not_do_is_left_out_and_said(tmp_path: Path, server: Running) -> None:
    run = measured(tmp_path, server, "base")
    there = {name.split("/")[1] for name in run.metrics if name.startswith("there/")}
    assert there == {"completion_facts", "reasoning", "grammar"}
    for task in there:
        assert run.metrics[f"there/{task}/accuracy"] == run.metrics[f"here/{task}/accuracy"]
    note = next(note for note in run.notes if "not measured" in note)
    assert all(task in note for task in CHATS)
    assert "is a base model" in note


def test_likelihoods_are_those_of_a_forward_pass(server: Running) -> None:
    served = server.models.get("base")
    subject = Subject("here", served.speaker.model, served.tokenizer)
    asks = [OptionsAsk(text, (" Lima.", "Lima, or a é", " x")) for text in ("The capital of Peru is", "", "é")]
    asked = RemoteEngine(Server(server.url, "base", concurrency=3)).all(asks, likelihoods)
    for ask, found in zip(asks, asked, strict=True):
        prompt = [served.tokenizer.bos_id, *served.tokenizer.encode(ask.prompt)]
        completions = [Completion([*prompt, *served.tokenizer.encode(text)], len(prompt)) for text in ask.options]
        assert_close(found, subject.logprobs(completions), rtol=0, atol=1e-4)


def test_what_a_server_offers_is_found_out(server: Running) -> None:
    instruct, base = (
        RemoteEngine(Server(server.url, name)).all(["a trial"], offers)[0] for name in ("instruct", "base")
    )
    assert (instruct.chat, instruct.text, instruct.likelihood) == ("", "", "")
    assert (base.text, base.likelihood) == ("", "")
    assert "base model" in base.chat


def draw(folder: Path, server: Running, **changes: Any) -> StageRun:
    run = stage_run(folder / "out")
    engine = {"url": server.url, "model": "instruct", **changes}
    config = SampleConfig(
        engine=engine, prompts="", num_replies=2, max_tokens=6, temperature=0.9, top_p=0.8, stop=["a"]
    )
    sample.run(config, {"prompts": prompts_artifact(folder / "p")}, run)
    return run


def rows_of(run: StageRun) -> list[dict[str, Any]]:
    return list(read_jsonl(run.directory / "completions.jsonl"))


def test_sampled_replies_are_those_of_the_model_here(tmp_path: Path, server: Running) -> None:
    served = server.models.get("instruct")
    for row in rows_of(draw(tmp_path, server)):
        ids = prompt_ids(served.tokenizer, row["prompt"])
        request = Request(ids, Sampling(6, 0.9, top_p=0.8), row["sampling"]["seed"], stop_strings=["a"])
        [reply] = served.speaker.engine.generate([request])
        assert (row["completion"], row["finish_reason"], row["num_tokens"]) == (
            reply.text,
            reply.finish_reason,
            len(reply.ids),
        )


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One slot, one that may wait, and a key."""
    folder = tmp_path_factory.mktemp("narrow")
    key = add_key(folder / "keys.txt", "anna")
    with running(folder, Limits(slots=1, waiting=1), keys=read_keys(folder / "keys.txt")) as found:
        found.key = key
        yield found


def test_a_full_queue_is_waited_for_and_a_key_is_needed(
    tmp_path: Path, server: Running, narrow: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ResourceError, match="lets nobody in without a key"):
        draw(tmp_path / "shut", narrow)
    monkeypatch.setenv("OPENAI_API_KEY", narrow.key)
    run = draw(tmp_path / "open", narrow, concurrency=4, attempts=30)
    assert rows_of(run) == rows_of(draw(tmp_path / "calm", server))
    assert any("429" in note for note in run.notes)


def test_a_prompt_that_is_too_long_is_named(tmp_path: Path, server: Running) -> None:
    rows = [{"id": "long", "messages": [{"role": "user", "content": "word " * 2000}], "kind": "k"}]
    prompts = jsonl_artifact(ArtifactType.PROMPTS, tmp_path / "p" / "prompts.jsonl", rows)
    config = SampleConfig(engine={"url": server.url, "model": "instruct"}, prompts="", num_replies=1)
    with pytest.raises(DataError, match=r"refuses prompt long \(400\): the prompt has \d+ tokens"):
        sample.run(config, {"prompts": prompts}, stage_run(tmp_path / "out"))
