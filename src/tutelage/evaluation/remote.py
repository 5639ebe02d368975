"""A model under evaluation behind a server of the OpenAI protocol: what it says, and how likely it finds a text.

Likelihoods need a server that echoes log-probs (`tutelage serve`, vLLM). What it cannot be asked is not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.data.completions import Completion
from tutelage.errors import ResourceError
from tutelage.evaluation.harness import Answer, NotMeasured, Row, seed_of
from tutelage.generation.remote import SEEDS, Ask, RemoteEngine
from tutelage.generation.sampling import Sampling
from tutelage.generation.server import Connection, Server
from tutelage.generation.tool_loop import Dialogue
from tutelage.tools.calls import BadCall, ToolCall
from tutelage.tools.toolbox import Toolbox

NOTHING = Completion([], 0)  # a server gives text, not tokens


@dataclass(frozen=True)
class Continuation:
    """A text to be continued greedily, or with `echo` to be weighed."""

    prompt: str
    max_tokens: int
    name: str
    echo: bool = False

    async def answer(self, connection: Connection) -> Mapping[str, Any]:
        """The one choice."""
        told: dict[str, Any] = {"model": connection.server.model, "prompt": self.prompt, "temperature": 0}
        told |= {"max_tokens": self.max_tokens}
        told |= {"echo": True, "logprobs": 1} if self.echo else {}
        body = await connection.post("completions", told, f"prompt {self.name}")
        found = body.get("choices")
        if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0].get("text"), str):
            raise ResourceError(
                f"{connection.server.url} did not answer /completions with one text: {str(body)[:200]}",
                hint="look at the server's address and model",
            )
        choice: Mapping[str, Any] = found[0]
        return choice


class RemoteSubject:
    """See Examinee."""

    def __init__(self, label: str, server: Server) -> None:
        self.label, self._server = label, server

    def reply(self, rows: Sequence[Row], sampling: Sampling) -> list[Answer]:
        """Chat replies to `messages`; each row's random numbers come from its id."""
        asks = [Ask(row["messages"], sampling, seed_of(row["id"]) % SEEDS, name=str(row["id"])) for row in rows]
        found = self._ask(asks)
        return [Answer(answer.text, answer.finish_reason == "stop", NOTHING) for (answer,) in found]

    def complete(self, rows: Sequence[Row], max_tokens: int) -> list[Answer]:
        """Greedy continuations of `prompt` as the beginning of a document."""
        asks = [Continuation(row["prompt"], max_tokens, str(row["id"])) for row in rows]
        return [Answer(choice["text"], choice.get("finish_reason") == "stop", NOTHING) for choice in self._ask(asks)]

    def choose(self, rows: Sequence[Row]) -> list[int]:
        """The likeliest of each row's `options` after its `prompt`, by echoed log-probs."""
        asks = [
            Continuation(row.get("prompt", "") + option, 1, str(row["id"]), echo=True)
            for row in rows
            for option in row["options"]
        ]
        weighed = iter([self._weigh(choice) for choice in self._ask(asks)])
        scores = []
        for row in rows:
            start = len(row.get("prompt", ""))
            scores.append([next(weighed)(start, start + len(option)) for option in row["options"]])
        return [max(range(len(options)), key=options.__getitem__) for options in scores]

    def turns(self, rows: Sequence[Row], sampling: Sampling) -> list[tuple[str, list[ToolCall | BadCall]]]:
        """Calls are not asked of servers."""
        raise NotMeasured("calls of tools are measured on models here only")

    def converse(self, rows: Sequence[Row], toolbox: Toolbox, sampling: Sampling) -> list[Dialogue]:
        """Calls are not asked of servers."""
        raise NotMeasured("calls of tools are measured on models here only")

    def _ask(self, asks: Sequence[Any]) -> list[Any]:
        found = dict(RemoteEngine(self._server).answers(asks))
        return [found[number] for number in range(len(asks))]

    def _weigh(self, choice: Mapping[str, Any]) -> Any:
        logprobs = choice.get("logprobs")
        keys = ("token_logprobs", "text_offset")
        if not isinstance(logprobs, Mapping) or not all(isinstance(logprobs.get(key), list) for key in keys):
            raise NotMeasured(f"{self._server.url} does not echo log-probs")
        places = list(zip(logprobs["text_offset"], logprobs["token_logprobs"], strict=True))

        def between(start: int, end: int) -> float:
            return sum(logprob or 0.0 for offset, logprob in places if start <= offset < end)

        return between
