"""A server's beginning and end: 503 while models load, and an end in order, whatever it is told by and busy with."""

from __future__ import annotations

import json
import pickle
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

import tiny
from serve.live import CONTEXT, free_port, running, serve, wait_for
from tutelage.cli import build_app

ENDLESS = {"model": "instruct", "prompt": "x", "logit_bias": {"40": 100}, "stream": True}


def test_until_the_models_are_there_clients_are_told_to_come_again(tmp_path: Path) -> None:
    asked = {"model": "instruct", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    with running(tmp_path, loaded=False) as server, httpx2.Client(base_url=server.root) as client:
        answers = [
            client.get("/health"),
            client.get("/v1/models"),
            client.get("/v1/models/base"),
            client.post("/v1/chat/completions", json=asked),
            client.post("/v1/completions", json={"model": "base", "prompt": "x"}),
            client.post("/tokenize", json={"prompt": "x"}),
        ]
        for answer in answers:
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "loading"
            assert int(answer.headers["Retry-After"]) >= 1
        assert client.post("/v1/chat/completions", json={**asked, "model": "nobody"}).status_code == 404
        server.models.load()
        assert client.get("/health").json()["status"] == "ok"
        assert client.post("/v1/chat/completions", json=asked).status_code == 200


def test_what_does_not_end_in_time_hears_why(tmp_path: Path) -> None:
    with running(tmp_path, grace=0.0) as server:
        body = {**ENDLESS, "n": 30, "max_tokens": CONTEXT}
        with httpx2.stream("POST", f"{server.url}/completions", json=body) as stream:
            lines = stream.iter_lines()
            next(lines)
            server.stop()
            events = [line.removeprefix("data: ") for line in lines if line]
        assert json.loads(events[-2])["error"]["code"] == "shutting_down"
        assert events[-1] == "[DONE]"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_end_finishes_its_replies_and_ends_in_order(
    tmp_path: Path, number: signal.Signals
) -> None:
    tiny.model_artifact(tmp_path / "instruct", max_position_embeddings=CONTEXT)
    port = free_port()
    with serve(tmp_path / "instruct", port) as process, httpx2.Client(base_url=f"http://127.0.0.1:{port}/v1") as client:
        assert wait_for(client, process) <= {200, 503}
        with client.stream("POST", "/completions", json={**ENDLESS, "max_tokens": 300}) as stream:
            lines = stream.iter_lines()
            next(lines)
            process.send_signal(number)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        _, said = process.communicate()
        assert (process.returncode, said) == (0, "")


def test_an_address_that_is_taken_is_an_error_in_words(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        arguments = ["serve", str(tmp_path / "base"), "--store", "none", "--port", str(server.port)]
        done = CliRunner().invoke(build_app(), arguments)
    assert (done.exit_code, "cannot be opened" in done.stderr) == (2, True)


def test_a_model_that_cannot_be_loaded_ends_the_server_with_the_reason(tmp_path: Path) -> None:
    tiny.model_artifact(tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"\x00" * 64)
    arguments = ["serve", str(tmp_path / "broken"), "--store", "none", "--port", str(free_port())]
    done = CliRunner().invoke(build_app(), arguments)
    assert (done.exit_code, "model.safetensors" in done.stderr) == (2, True)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_pickle_is_refused_unread(tmp_path: Path, name: str) -> None:
    model, mark = tmp_path / "model", tmp_path / "read"
    tiny.model_artifact(model)
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(pickle.dumps(Bomb(mark)))
    done = CliRunner().invoke(build_app(), ["serve", str(model), "--store", "none", "--port", str(free_port())])
    assert (done.exit_code, mark.exists()) == (2, False)
    assert "safetensors" in done.stderr


def test_without_models_every_route_that_needs_one_says_so(tmp_path: Path) -> None:
    with running(tmp_path, models=False) as server, httpx2.Client(base_url=server.root) as client:
        assert client.get("/v1/models").json() == {"object": "list", "data": []}
        for answer in (client.get("/tokenizer_info"), client.post("/tokenize", json={"prompt": "x"})):
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
