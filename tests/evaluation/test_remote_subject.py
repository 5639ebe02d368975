"""A served model under evaluation: tools are run here, and what a server does not do is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from served import Response, Served, error, serving
from tiny import CITIES, artifact, jsonl_artifact, question, stage_run
from tutelage.errors import DataError, RecipeError
from tutelage.evaluation.remote_subject import RemoteSubject
from tutelage.generation.remote import RemoteEngine
from tutelage.generation.sampling import Sampling
from tutelage.generation.server import Server
from tutelage.run.artifacts import ArtifactType
from tutelage.run.stage import StageRun
from tutelage.stages import evaluate
from tutelage.stages.configs import EvaluateConfig
from tutelage.tools import toolbox
from tutelage.tools.calls import ToolCall
from tutelage.tools.toolbox import Toolbox

BOX = Toolbox([toolbox.calculator()])


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def _says(content: str, *calls: str, reason: str | None = None) -> Response:
    written = [
        {"id": f"call_{n}", "type": "function", "function": {"name": "calculator", "arguments": call}}
        for n, call in enumerate(calls)
    ]
    message = {"role": "assistant", "content": content or None, **({"tool_calls": written} if written else {})}
    choice = {"index": 0, "message": message, "finish_reason": reason or ("tool_calls" if calls else "stop")}
    return 200, {}, json.dumps({"choices": [choice]})


def _sum(expression: str) -> str:
    return json.dumps({"expression": expression})


def subject_of(served: Served) -> RemoteSubject:
    return RemoteSubject("there", RemoteEngine(Server(served.url, "tiny", concurrency=1)))


def row() -> dict[str, Any]:
    messages = [{"role": "user", "content": "What is 2 + 3, and 4 + 5?"}]
    meta = {"tools": ["calculator"]}
    return {"id": "sum", "task": "tool_arithmetic", "messages": messages, "answer": "5 and 9", "meta": meta}


def test_calls_are_run_here_and_their_results_sent_back() -> None:
    with serving() as served:

        def reply(number: int) -> Response:
            told = [turn for turn in served.payloads[-1]["messages"] if turn["role"] == "tool"]
            if "tools" not in served.payloads[-1] or told:
                return _says(" and ".join(turn["content"] for turn in told))
            return _says("", _sum("2 + 3"), _sum("4 + 5"))

        served.trouble = reply
        [dialogue] = subject_of(served).converse([row()], BOX, Sampling(20, 0.0))
    assert (dialogue.text, dialogue.ending) == ("5 and 9", "stop")
    assert [call.arguments for call in dialogue.calls if isinstance(call, ToolCall)] == [
        {"expression": "2 + 3"},
        {"expression": "4 + 5"},
    ]
    sent = served.payloads[-1]
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["calculator"]
    assert [turn.get("tool_call_id") for turn in sent["messages"][1:]] == [None, "call_0", "call_1"]
    assert len({payload["seed"] for payload in served.payloads[1:]}) == 2  # each turn has its own


@pytest.mark.parametrize(
    ("said", "ending", "requests"),
    [
        (_says("", "{no json"), "rounds", 1),  # not sent back: it would be refused
        (_says("2 +", reason="length"), "length", 1),
        (_says("", _sum("1 / 0")), "rounds", 5),  # the model hears of the error, and calls again and again
    ],
)
def test_how_a_conversation_may_end(said: Response, ending: str, requests: int) -> None:
    with serving() as served:
        served.trouble = lambda number: said
        subject = subject_of(served)
        assert subject.offers.chat == ""
        served.payloads.clear()
        [dialogue] = subject.converse([row()], BOX, Sampling(20, 0.0))
        assert (dialogue.ending, len(served.payloads)) == (ending, requests)


def test_a_server_that_only_chats_is_measured_in_chat(tmp_path: Path) -> None:
    rows = [
        {"id": "f", "task": "chat_facts", "messages": question("Peru"), "answer": "Lima"},
        {"id": "g", "task": "grammar", "answer": "a b", "options": ["a b", "b a"]},
        {"id": "c", "task": "completion_facts", "prompt": "The capital of Peru is", "answer": "Lima"},
    ]
    tasks = jsonl_artifact(ArtifactType.TASKS, tmp_path / "tasks" / "tasks.jsonl", rows)
    run = stage_run(tmp_path / "out")
    with serving() as served:
        engine = {"url": served.url, "model": "tiny"}
        tokens = artifact(ArtifactType.TOKENS, tmp_path)
        config = EvaluateConfig(engines={"there": engine}, tasks="", tokens="", reference="there", max_tokens=4)
        evaluate.run(config, {"tasks": tasks, "tokens": tokens}, run)
        url = served.url
    assert {name.split("/")[1] for name in run.metrics} == {"chat_facts", "format"}
    assert [note for note in run.notes if "not measured" in note] == [
        f"there: completion_facts not measured: {url} does not go on with a text with tiny: no such place",
        f"there: grammar not measured: {url} does not tell how likely a text is with tiny: no such place",
    ]
    assert run.notes[-1].startswith("there: without bits a byte, KL")


@pytest.mark.parametrize("torn", [0, 20])
def test_a_killed_stage_asks_only_for_what_is_missing(tmp_path: Path, torn: int) -> None:
    rows = [
        {"id": country, "task": task, "messages": question(country), "answer": city}
        for task in ("chat_facts", "harmful")
        for country, city in CITIES.items()
    ]
    tasks = jsonl_artifact(ArtifactType.TASKS, tmp_path / "tasks" / "tasks.jsonl", rows)
    with serving() as served:
        config = EvaluateConfig(engines={"there": {"url": served.url, "model": "tiny", "concurrency": 1}}, max_tokens=4)

        def measured(folder: Path) -> StageRun:
            run = stage_run(folder)
            evaluate.run(config, {"tasks": tasks}, run)
            return run

        whole = measured(tmp_path / "whole")
        served.payloads.clear()
        served.trouble = lambda number: error(400, "enough") if number == 4 else None
        with pytest.raises(DataError, match="enough"):
            measured(tmp_path / "cut")
        kept = tmp_path / "cut.scratch" / "answers-0.jsonl"
        content = kept.read_bytes()
        assert content.count(b"\n") == 3  # beside these, one to find out what the server does
        kept.write_bytes(content[: len(content) - torn])
        served.payloads.clear()
        served.trouble = lambda number: None
        run = measured(tmp_path / "cut")
        left = 3 - bool(torn)
        assert len(served.payloads) == 1 + 6 - left  # an item that is in two tasks is asked once
    assert run.metrics == whole.metrics
    assert f"there: went on after {left} answers" in run.notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "nobody is measured"),
        ({"models": {"a": "m"}, "engines": {"a": {"model": "x"}}}, "'a' is among `models` and `engines`"),
        ({"engines": {"a": {"model": "x", "n": 2}}}, "leave `n` out"),
    ],
)
def test_what_does_not_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EvaluateConfig(**changes)


def test_a_teacher_must_be_a_model_of_ours(tmp_path: Path) -> None:
    config = EvaluateConfig(engines={"there": {"model": "x"}}, teacher="there")
    with pytest.raises(RecipeError, match="teacher: 'there' is not among models"):
        evaluate.run(config, {}, stage_run(tmp_path))
