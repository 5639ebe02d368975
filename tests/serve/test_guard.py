"""What is refused, what a full queue says, and that a client who hangs up gives its slot back."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import checks

from serve.live import Running, running
from tutelage.errors import ResourceError
from tutelage.serve.keys import Keys
from tutelage.serve.models import Limits
from tutelage.serve.running import Address

ENDLESS = {"model": "instruct", "messages": [{"role": "user", "content": "x"}], "logit_bias": {"40": 100}}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two slots, one may wait, small bodies."""
    limits = Limits(slots=2, waiting=1, body=4096)
    with running(tmp_path_factory.mktemp("small"), limits) as found:
        yield found


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "10.1.2.3"},
        {"Host": ""},
        {"Host": "["},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_other_names_and_other_sites_are_refused(server: Running, headers: dict[str, str]) -> None:
    answers = [
        httpx2.get(f"{server.url}/models", headers=headers),
        httpx2.post(f"{server.url}/chat/completions", json=ENDLESS | {"max_tokens": 1}, headers=headers),
    ]
    for answer in answers:
        assert answer.status_code in (400, 403)
        assert answer.status_code == 400 or answer.json()["error"]["code"] in ("wrong_host", "cross_site")


def test_no_page_of_another_site_is_let_read(server: Running) -> None:
    answer = httpx2.request("OPTIONS", f"{server.url}/models", headers={"Origin": server.root})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert httpx2.get(f"{server.url}/models", headers={"Origin": server.root}).status_code == 200


def test_a_body_beyond_the_limit_is_refused_whether_or_not_its_length_is_stated(small: Running) -> None:
    large = json.dumps(ENDLESS | {"user": "x" * 5000}).encode()
    headers = {"Content-Type": "application/json"}

    def in_parts() -> Iterator[bytes]:
        yield large[:3000]
        yield large[3000:]

    for content in (large, in_parts()):
        answer = httpx2.post(f"{small.url}/chat/completions", content=content, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"null", b"[" * 4000, b'{"model": NaN}'])
def test_what_is_no_request_is_an_error_in_shape(server: Running, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = httpx2.post(f"{server.url}/chat/completions", content=content, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_an_unknown_path_or_method_is_an_error_in_shape(server: Running) -> None:
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/models", 405),
        ("GET", "/v1/../etc/passwd", 404),
    ):
        answer = httpx2.request(method, f"{server.root}{path}")
        assert (answer.status_code, set(answer.json()["error"])) == (status, {"message", "type", "param", "code"})


@pytest.mark.parametrize(
    "path", ["/v1/../../etc/passwd", "/v1/models/..%2f..%2fetc%2fpasswd", "/v1/chat/completions/../x"]
)
def test_a_path_leads_nowhere_but_to_routes(server: Running, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:  # as it is: clients would mend it
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"root:" not in answer


def test_text_that_databases_dislike_is_stored(server: Running) -> None:
    body = {"model": "instruct", "messages": [{"role": "user", "content": "\x00?"}], "max_tokens": 1, "store": True}
    content = json.dumps(body | {"metadata": {"zero": "\x00"}}).encode()
    headers = {"Content-Type": "application/json"}
    answer = httpx2.post(f"{server.url}/chat/completions", content=content, headers=headers)
    stored = httpx2.get(f"{server.url}/chat/completions/{answer.json()['id']}/messages").json()
    assert stored["data"][0]["content"] == "\x00?"
    half = content.replace(b"?", b"\\ud83d")
    answer = httpx2.post(f"{server.url}/chat/completions", content=half, headers=headers)
    stored = httpx2.get(f"{server.url}/chat/completions/{answer.json()['id']}/messages").json()
    assert stored["data"][0]["content"] == "\x00\ud83d"


def test_a_client_that_hangs_up_frees_its_slot(small: Running) -> None:
    for stream in (False, True):
        body = json.dumps(ENDLESS | {"stream": stream, "n": 2, "max_tokens": 700}).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        worker = small.models.get("instruct").worker
        before = worker.num_drawn
        with socket.create_connection(("127.0.0.1", small.port)) as connection:
            connection.sendall(head.encode() + body)
            small.until(lambda: small.busy() == 2)
        small.until(lambda: small.busy() == 0)
        assert worker.num_drawn - before < 2 * 700
        assert worker.num_waiting == 0


def test_a_full_queue_says_when_to_come_again(small: Running) -> None:
    with httpx2.stream("POST", f"{small.url}/chat/completions", json=ENDLESS | {"stream": True, "n": 3}) as streaming:
        lines = streaming.iter_lines()
        next(lines)
        answer = httpx2.post(f"{small.url}/chat/completions", json=ENDLESS | {"max_tokens": 1})
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
        assert int(answer.headers["Retry-After"]) >= 1
        other = httpx2.post(f"{small.url}/completions", json={"model": "base", "prompt": "x", "max_tokens": 2})
        assert other.status_code == 200  # each model has a queue of its own
    small.until(lambda: small.busy() == 0)
    assert httpx2.post(f"{small.url}/chat/completions", json=ENDLESS | {"max_tokens": 1}).status_code == 200
    never = httpx2.post(f"{small.url}/chat/completions", json=ENDLESS | {"n": 4})
    assert never.status_code == 400  # to come again would be of no use


def test_health_tells_how_busy_it_is(small: Running) -> None:
    assert httpx2.get(f"{small.root}/health").json()["models"]["instruct"] == {"slots": 2, "busy": 0, "waiting": 0}


def test_an_address_for_everybody_needs_a_key() -> None:
    with pytest.raises(ResourceError, match="no key"):
        Address("0.0.0.0").check(Keys())
    Address("0.0.0.0").check(Keys(["x"]))
    Address("127.0.0.1").check(Keys())


def test_what_is_under_way_is_finished_before_the_server_ends(tmp_path: Path) -> None:
    body = ENDLESS | {"stream": True, "max_tokens": 300}
    with running(tmp_path) as server, httpx2.stream("POST", f"{server.url}/chat/completions", json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        server.stop()
        assert [line for line in lines if line][-1] == "data: [DONE]"


def test_nothing_that_fits_the_schema_or_does_not_is_a_server_error(server: Running) -> None:
    schema = schemathesis.openapi.from_url(f"{server.root}/openapi.json")
    for number, result in enumerate(schema.get_all_operations()):
        operation = result.ok()

        @settings(
            max_examples=5, database=None, suppress_health_check=list(HealthCheck), derandomize=True, deadline=None
        )
        @given(case=operation.as_strategy())
        def probe(case: Any) -> None:
            case.call_and_validate(checks=[checks.not_a_server_error])

        probe()
        assert number < 100
