"""A server of the OpenAI protocol over real HTTP, whose replies are those of a tiny model of ours."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tiny import model, tokenizer
from tutelage.data.completions import prompt_ids
from tutelage.generation.engine import Engine, Request
from tutelage.generation.sampling import Sampling

Response = tuple[int, Mapping[str, str], str]
Trouble = Callable[[int], Response | None]


class Served:
    """What the server saw, and what it is to do: `trouble` answers request number n instead, `delay` in seconds."""

    def __init__(self) -> None:
        self.tokenizer = tokenizer()
        self._engine = Engine(model(), self.tokenizer.stop_ids, self.tokenizer.pad_id, tokenizer=self.tokenizer)
        self._one_by_one = threading.Lock()
        self._counting = threading.Lock()
        self.payloads: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.under_way = self.most_under_way = 0
        self.trouble: Trouble = lambda number: None
        self.models: Response = _json({"data": [{"id": "tiny"}, {"id": "other"}]})
        self.delay = 0.0
        self.url = ""

    def chat(self, payload: dict[str, Any], headers: dict[str, str]) -> Response:
        """One request for replies."""
        with self._counting:
            number = len(self.payloads)
            self.payloads.append(payload)
            self.headers.append(headers)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            time.sleep(self.delay)
            return self.trouble(number) or _json(self.replies(payload))
        finally:
            with self._counting:
                self.under_way -= 1

    def replies(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """What the model says; reply i of a request is drawn with its seed + i."""
        sampling = Sampling(payload["max_tokens"], payload["temperature"], payload.get("top_k", 0),
                            payload.get("top_p", 1.0), payload.get("min_p", 0.0))  # fmt: skip
        ids = prompt_ids(self.tokenizer, payload["messages"])
        requests = [
            Request(ids, sampling, payload["seed"] + extra, stop_strings=payload.get("stop", ()))
            for extra in range(payload.get("n", 1))
        ]
        with self._one_by_one:
            replies = self._engine.generate(requests)
        texts = [self.tokenizer.decode(reply.ids) if reply.text is None else reply.text for reply in replies]
        choices = [
            {"index": place, "message": {"role": "assistant", "content": text}, "finish_reason": reply.finish_reason}
            for place, (text, reply) in enumerate(zip(texts, replies, strict=True))
        ]
        return {"choices": choices, "usage": {"completion_tokens": sum(len(reply.ids) for reply in replies)}}


def _json(body: Any, status: int = 200) -> Response:
    return status, {"Content-Type": "application/json"}, json.dumps(body)


def error(status: int, words: str = "not now", **headers: str) -> Response:
    """An error as such servers give it."""
    return status, {"Content-Type": "application/json", **headers}, json.dumps({"error": {"message": words}})


class Server(ThreadingHTTPServer):
    """One thread a connection; a client that hangs up is no error."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving() -> Iterator[Served]:
    """A server on a free port of this machine, until the end of the block."""
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._give(served.models if self.path == "/v1/models" else error(404, "no such place"))

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:  # the client hung up
                self.close_connection = True
            elif self.path == "/v1/chat/completions":
                self._give(served.chat(json.loads(body), dict(self.headers)))
            else:
                self._give(error(404, "no such place"))

        def _give(self, response: Response) -> None:
            status, headers, body = response
            data = body.encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
