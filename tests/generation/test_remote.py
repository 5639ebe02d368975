"""A server in the engine's place: over real HTTP, seeded, bounded, patient, taken up where it was killed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from served import Response, Served, error, serving
from tiny import CITIES, Interrupter, model, model_artifact, prompts_artifact, question, stage_run, tokenizer
from tutelage.data.completions import prompt_ids
from tutelage.errors import DataError, ResourceError
from tutelage.generation import server as connections
from tutelage.generation.engine import Engine, Request
from tutelage.generation.remote import Ask, RemoteEngine
from tutelage.generation.sampling import Sampling
from tutelage.generation.server import Server
from tutelage.run.progress import no_progress
from tutelage.run.stage import ProgressFactory, StageRun
from tutelage.sources.store import read_jsonl
from tutelage.stages import sample
from tutelage.stages.configs import SampleConfig


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(connections, "FIRST_WAIT", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving() as found:
        yield found


def draw(folder: Path, url: str, progress: ProgressFactory = no_progress, engine: Any = None,
         **changes: Any) -> StageRun:  # fmt: skip
    settings: dict[str, Any] = {"prompts": "", "num_replies": 2, "max_tokens": 6, **changes}
    run = stage_run(folder / "out", progress)
    config = SampleConfig(engine={"url": url, "model": "tiny", **(engine or {})}, **settings)
    sample.run(config, {"prompts": prompts_artifact(folder / "p")}, run)
    return run


def rows_of(run: StageRun) -> list[dict[str, Any]]:
    return list(read_jsonl(run.directory / "completions.jsonl"))


@pytest.mark.parametrize("concurrency", [1, 5])
def test_replies_are_those_of_the_engine_here_with_their_own_seeds(
    tmp_path: Path, served: Served, concurrency: int
) -> None:
    served.delay = 0.01
    sampling: dict[str, Any] = {"temperature": 0.9, "top_p": 0.8, "top_k": 40, "min_p": 0.01, "stop": ["a"]}
    run = draw(tmp_path, served.url, engine={"concurrency": concurrency}, **sampling)
    rows = rows_of(run)
    assert [row["id"] for row in rows] == [f"{country}/{number}" for country in CITIES for number in (0, 1)]
    engine = Engine(model(), tokenizer().stop_ids, tokenizer().pad_id, tokenizer=tokenizer())
    for row in rows:
        ids = prompt_ids(tokenizer(), row["prompt"])
        chosen = Sampling(6, 0.9, 40, 0.8, 0.01)
        [reply] = engine.generate([Request(ids, chosen, row["sampling"]["seed"], stop_strings=["a"])])
        assert (row["completion"], row["num_tokens"]) == (reply.text, len(reply.ids))
        assert row["finish_reason"] == reply.finish_reason
        assert row["model"] == "tiny"
    assert len({row["sampling"]["seed"] for row in rows}) == len(rows)
    assert served.most_under_way <= concurrency
    assert (served.most_under_way > 1) == (concurrency > 1)


def test_what_changes_nothing_is_not_sent(tmp_path: Path, served: Served) -> None:
    draw(tmp_path, served.url)
    assert {frozenset(payload) for payload in served.payloads} == {
        frozenset({"model", "messages", "max_tokens", "temperature", "seed"})
    }


def test_several_replies_may_come_of_one_request(tmp_path: Path, served: Served) -> None:
    rows = rows_of(draw(tmp_path, served.url, num_replies=5, engine={"n": 2}))
    assert sorted(payload.get("n", 1) for payload in served.payloads) == [1] * 6 + [2] * 12
    assert len(rows) == 5 * len(CITIES)
    assert [row["num_tokens"] is None for row in rows[:5]] == [True, True, True, True, False]
    assert len({row["completion"] for row in rows[:5]}) > 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(tmp_path: Path, served: Served, status: int) -> None:
    calm = rows_of(draw(tmp_path / "calm", served.url))
    served.payloads.clear()
    served.trouble = lambda number: error(status, **{"Retry-After": "0"}) if number % 3 == 0 else None
    run = draw(tmp_path / "busy", served.url, engine={"attempts": 20})
    assert rows_of(run) == calm
    repeated = len(served.payloads) - len(calm)
    assert repeated >= len(calm) // 3
    assert any(note.startswith(f"{repeated} requests to {served.url} were repeated: {status}") for note in run.notes)


def test_a_server_that_stays_busy_or_silent_is_given_up(tmp_path: Path, served: Served) -> None:
    served.trouble = lambda number: error(503)
    with pytest.raises(ResourceError, match=r"no answer in 3 attempts; the last: 503") as caught:
        draw(tmp_path / "busy", served.url, engine={"attempts": 3, "concurrency": 1})
    assert "engine.timeout" in caught.value.hint
    assert len(served.payloads) == 3
    served.trouble, served.delay = (lambda number: None), 0.5
    with pytest.raises(ResourceError, match=r"no answer in 2 attempts; the last: nothing within 0\.1 s"):
        draw(tmp_path / "slow", served.url, engine={"attempts": 2, "timeout": 0.1, "concurrency": 2})


def test_a_server_that_is_away_is_said_to_be_so_at_once(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(ResourceError, match=f"no server answers at {url}") as caught:
        draw(tmp_path, url)
    assert "vllm serve" in caught.value.hint


def test_a_model_that_is_not_served_is_named_with_those_that_are(tmp_path: Path, served: Served) -> None:
    with pytest.raises(ResourceError, match="does not serve 'huge'; it serves tiny, other") as caught:
        draw(tmp_path, served.url, engine={"model": "huge"})
    assert "engine.model" in caught.value.hint
    assert served.payloads == []
    served.models = error(404, "no list here")
    assert len(rows_of(draw(tmp_path / "without", served.url))) == 12


def test_a_request_that_is_refused_is_named_by_its_prompt(tmp_path: Path, served: Served) -> None:
    served.trouble = lambda number: error(400, "maximum context length is 4096") if number == 0 else None
    with pytest.raises(DataError, match=r"refuses prompt France \(400\): maximum context length is 4096") as caught:
        draw(tmp_path, served.url, engine={"concurrency": 1})
    assert "max_tokens" in caught.value.hint


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, {}, "<html>hello"), "not in the OpenAI protocol: '<html>hello'"),
        ((200, {}, '{"choices": []}'), "1 of them"),
        ((200, {}, '{"choices": [{"text": "x"}]}'), "not in the OpenAI protocol"),
        ((200, {}, '{"choices": [{"message": {"content": 5}}]}'), "not in the OpenAI protocol"),
        ((302, {"Location": "http://127.0.0.1:1/"}, ""), "has no such place"),
        ((404, {}, '{"error": "the model is gone"}'), "the model is gone"),
    ],
)
def test_an_answer_that_is_none_is_shown(tmp_path: Path, served: Served, answer: Response, words: str) -> None:
    served.trouble = lambda number: answer
    with pytest.raises(ResourceError) as caught:
        draw(tmp_path, served.url)
    assert words in caught.value.message
    assert "engine.url" in caught.value.hint


def test_an_answer_without_text_or_count_is_an_empty_reply(tmp_path: Path, served: Served) -> None:
    served.trouble = lambda number: (200, {}, '{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}')
    assert {(row["completion"], row["num_tokens"]) for row in rows_of(draw(tmp_path, served.url))} == {("", None)}


def test_the_key_is_sent_and_written_nowhere(tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.models = error(401, "who are you?")
    with pytest.raises(ResourceError, match=r"lets nobody in without a key \(401\): who are you") as caught:
        draw(tmp_path / "without", served.url, engine={"api_key_env": "MY_KEY"})
    assert "MY_KEY (engine.api_key_env) is not set" in caught.value.hint
    monkeypatch.setenv("MY_KEY", "open-sesame")
    served.models = error(404)
    monkeypatch.setenv("BAD_KEY", "open\nsesame")
    with pytest.raises(ResourceError, match="BAD_KEY holds characters that no key has") as caught:
        draw(tmp_path / "bad", served.url, engine={"api_key_env": "BAD_KEY"})
    assert "sesame" not in str(caught.value)
    run = draw(tmp_path / "with", served.url, engine={"api_key_env": "MY_KEY"})
    assert {headers["Authorization"] for headers in served.headers} == {"Bearer open-sesame"}
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not any(b"open-sesame" in data for data in written)
    assert not any("open-sesame" in note for note in run.notes)


@pytest.mark.parametrize("torn", [False, True])
def test_an_interrupted_stage_asks_only_for_what_is_missing(tmp_path: Path, served: Served, torn: bool) -> None:
    whole = draw(tmp_path / "whole", served.url)
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "cut", served.url, Interrupter(5, "sample"), engine={"concurrency": 1})
    kept = tmp_path / "cut" / "out.scratch" / "answers.jsonl"
    assert len(kept.read_text().splitlines()) == 5
    if torn:
        kept.write_text(kept.read_text()[:-20])
    served.payloads.clear()
    again, left = draw(tmp_path / "cut", served.url), 4 if torn else 5
    seeds = [row["sampling"]["seed"] for row in rows_of(whole)]
    assert {payload["seed"] for payload in served.payloads} == set(seeds[left:])
    assert rows_of(again) == rows_of(whole)
    assert f"went on after {left} of 12 requests" in again.notes


def test_one_reply_does_not_depend_on_the_others(served: Served) -> None:
    engine = RemoteEngine(Server(served.url, "tiny", concurrency=3))
    asks = [Ask(question(country), Sampling(5), seed) for seed, country in enumerate(CITIES)]
    together = dict(engine.answers(asks))
    assert [dict(engine.answers([ask]))[0] for ask in asks] == [together[number] for number in range(len(asks))]
    assert list(engine.answers([])) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "nobody replies"),
        ({"engine": {}}, r"engine\.model"),
        ({"engine": {"model": "x", "url": "127.0.0.1:8000"}}, "is no address"),
        ({"engine": {"model": "x", "url": "http://me:secret@host/v1"}}, "use `api_key_env`"),
        ({"engine": {"model": "x", "key": "secret"}}, "Extra inputs"),
        ({"model": "m", "stop": [""]}, "at least 1 character"),
    ],
)
def test_a_recipe_that_cannot_ask_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SampleConfig(prompts="", **changes)


def test_stop_strings_end_replies_of_the_engine_here_too(tmp_path: Path) -> None:
    inputs = {"model": model_artifact(tmp_path / "m"), "prompts": prompts_artifact(tmp_path / "p")}
    texts = {}
    for stop in ((), ("a", "e")):
        run = stage_run(tmp_path / f"out{len(stop)}")
        sample.run(SampleConfig(model="", prompts="", max_tokens=12, stop=list(stop)), inputs, run)
        texts[stop] = rows_of(run)
    assert any(set("ae") & set(row["completion"]) for row in texts[()])
    for free, ended in zip(texts[()], texts[("a", "e")], strict=True):
        assert free["completion"].startswith(ended["completion"])
        assert not set("ae") & set(ended["completion"])
        if ended["completion"] != free["completion"]:
            assert ended["finish_reason"] == "stop"
