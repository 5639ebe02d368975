"""Conversations in which the model calls tools: generate, run the calls, go on, until it answers without calling.

All conversations that still go on are decoded together. The tokens are kept as they were drawn and the results put
between them, so what a policy wrote is what it can be trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tutelage.data.tokenizer import TextTokenizer
from tutelage.data.tool_calls import answering_ids, read_reply
from tutelage.generation.engine import Engine, Reply, Request
from tutelage.tools.calls import BadCall, ToolCall
from tutelage.tools.toolbox import Toolbox, ToolResult

MAX_ROUNDS = 4  # of calls in one answer
Ending = Literal["stop", "length", "context", "rounds"]


@dataclass(frozen=True)
class Step:
    """A turn of the assistant: what it said, what it called, and what came back, in the order of the calls."""

    text: str
    calls: tuple[ToolCall | BadCall, ...] = ()
    results: tuple[ToolResult, ...] = ()

    def messages(self) -> list[dict[str, Any]]:
        """As conversations are written down. What is no call stays in the content, as the text that it is."""
        written = [call.text for call in self.calls if isinstance(call, BadCall)]
        called = [call.to_json() for call in self.calls if isinstance(call, ToolCall)]
        content = "\n".join(part for part in (self.text, *written) if part)
        turn = {"role": "assistant", "content": content, **({"tool_calls": called} if called else {})}
        return [turn, *({"role": "tool", "content": result.text} for result in self.results)]


@dataclass
class Dialogue:
    """A prompt with everything that followed. `written` marks the tokens that the model drew, `logprobs` are theirs.

    `ending`: by itself, at `max_tokens`, because the context was full, or because it called once more than allowed.
    """

    ids: list[int]
    written: list[bool]
    logprobs: list[float]  # one for each token; 0 for those that the model did not draw
    steps: list[Step] = field(default_factory=list)
    ending: Ending = "length"

    @property
    def text(self) -> str:
        """The answer: what the last turn says."""
        return self.steps[-1].text if self.steps else ""

    @property
    def calls(self) -> list[ToolCall | BadCall]:
        """All calls, in order."""
        return [call for step in self.steps for call in step.calls]

    def messages(self) -> list[dict[str, Any]]:
        """The turns after the prompt."""
        return [message for step in self.steps for message in step.messages()]


def run_dialogues(
    engine: Engine,
    tokenizer: TextTokenizer,
    toolbox: Toolbox,
    requests: Sequence[Request],
    max_rounds: int = MAX_ROUNDS,
    on_end: Callable[[int, Dialogue], None] = lambda number, dialogue: None,
) -> list[Dialogue]:
    """A dialogue for each request, whose prompt ends where the assistant begins and holds the tools' definitions.

    Each turn has at most the request's `max_tokens`, and random numbers of its own; those of the first are the
    request's, so a reply without calls is the one that a model without tools gives. A malformed call is answered with
    the reason. After `max_rounds` rounds of results one more turn may answer; if it calls again, nothing is run.
    """
    dialogues = [
        Dialogue(list(request.prompt_ids), [False] * len(request.prompt_ids), [0.0] * len(request.prompt_ids))
        for request in requests
    ]
    going = list(range(len(requests)))
    for number_of_round in range(max_rounds + 1):
        asked = [_next(requests[number], dialogues[number], number_of_round) for number in going]
        replies = engine.generate(asked)
        next_going = []
        for number, reply in zip(going, replies, strict=True):
            dialogue = dialogues[number]
            last = number_of_round == max_rounds
            if _take(dialogue, reply, tokenizer, toolbox, last) and _answer(dialogue, tokenizer, engine.context):
                next_going.append(number)
            else:
                on_end(number, dialogue)
        going = next_going
        if not going:
            break
    return dialogues


def round_seed(seed: int, number: int) -> int:
    """The seed of a later turn of the same request."""
    if number == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:8], "little")


def _next(request: Request, dialogue: Dialogue, number: int) -> Request:
    return replace(request, prompt_ids=dialogue.ids, seed=round_seed(request.seed, number))


def _take(dialogue: Dialogue, reply: Reply, tokenizer: TextTokenizer, toolbox: Toolbox, last: bool) -> bool:
    """Add a reply with the results of its calls; whether there is something to go on from."""
    dialogue.ids += reply.ids
    dialogue.written += [True] * len(reply.ids)
    dialogue.logprobs += reply.logprobs
    text, calls = read_reply(tokenizer, reply.ids)
    settled = tuple(toolbox.settle(call) if isinstance(call, ToolCall) else call for call in calls)
    if not reply.ends_with(tokenizer.end_of_turn_id) or last or not settled:
        dialogue.steps.append(Step(text, settled))
        ended = reply.finish_reason == "stop"
        dialogue.ending = "length" if not ended else "rounds" if settled and last else "stop"
        return False
    dialogue.steps.append(Step(text, settled, tuple(toolbox.run(call) for call in settled)))
    return True


def _answer(dialogue: Dialogue, tokenizer: TextTokenizer, context: int) -> bool:
    """Add the turns of the tools; False if they leave no room for a reply."""
    ids = answering_ids(tokenizer, [result.text for result in dialogue.steps[-1].results])
    if len(dialogue.ids) + len(ids) >= context:
        dialogue.ending = "context"
        return False
    dialogue.ids += ids
    dialogue.written += [False] * len(ids)
    dialogue.logprobs += [0.0] * len(ids)
    return True
