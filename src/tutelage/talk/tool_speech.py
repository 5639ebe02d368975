"""A reply in which the model calls tools: its words as they are drawn, each call with its result, its words again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tutelage.data.tokenizer import IncrementalDecoder
from tutelage.data.tool_calls import answering_ids, read_reply
from tutelage.generation.engine import Request
from tutelage.generation.guidance import guided_calls
from tutelage.generation.sampling import Sampling
from tutelage.generation.tool_loop import MAX_ROUNDS, Step, round_seed
from tutelage.talk.speaker import Speaker
from tutelage.talk.stream import Ending, Speech
from tutelage.tools.calls import BadCall, ToolCall
from tutelage.tools.toolbox import Toolbox, ToolResult


class ToolSpeech(Speech):
    """A reply with tools: `text` is all that was shown, `reply` what the model said last, `steps` are its turns."""

    def __init__(
        self, speaker: Speaker, prompt_ids: Sequence[int], sampling: Sampling, seed: int, toolbox: Toolbox
    ) -> None:
        super().__init__(speaker, prompt_ids, sampling, seed)
        self._toolbox = toolbox
        self._said = ""  # in the turn that is being drawn
        self.steps: list[Step] = []

    @property
    def reply(self) -> str:
        """What the model said last."""
        return self._said

    def messages(self) -> list[dict[str, Any]]:
        """Its turns with their calls and results; a turn that was cut is only what it said."""
        told = [message for step in self.steps for message in step.messages()]
        return (
            told if told and told[-1]["role"] == "assistant" else [*told, {"role": "assistant", "content": self._said}]
        )

    def __iter__(self) -> Iterator[str]:
        prompt = list(self._request.prompt_ids)
        for number in range(MAX_ROUNDS + 1):
            ids: list[int] = []
            self._said = ""
            seed = round_seed(self._request.seed, number)
            guided = guided_calls(self._speaker.tokenizer, self._toolbox.definitions)
            request = replace(self._request, prompt_ids=prompt, seed=seed, steering=guided)
            yield from self._turn(request, ids)
            text, calls = read_reply(self._speaker.tokenizer, ids)
            settled = [self._toolbox.settle(call) if isinstance(call, ToolCall) else call for call in calls]
            self.ended = self._ending(ids)
            if self.ended != "stop" or not settled or number == MAX_ROUNDS:
                self.steps.append(Step(text, tuple(settled)))
                self.ended = "rounds" if settled and self.ended == "stop" else self.ended
                return
            self.ended = "cut"
            results: list[ToolResult] = []
            for call in settled:
                results.append(self._toolbox.run(call))
                begin = "\n" if self.text and not self.text.endswith("\n") else ""
                yield from self._add(f"{begin}{_line(call, results[-1])}\n")
            self.steps.append(Step(text, tuple(settled), tuple(results)))
            prompt += ids + answering_ids(self._speaker.tokenizer, [result.text for result in results])
            if len(prompt) >= self._speaker.engine.context:
                self._said, self.ended = "", "context"
                return

    def _turn(self, request: Request, ids: list[int]) -> Iterator[str]:
        """One turn of the assistant: its words as pieces; its calls are shown when they have been run."""
        tokenizer = self._speaker.tokenizer
        decoder, calling = IncrementalDecoder(tokenizer), False
        for token_id in self._speaker.engine.stream(request):
            ids.append(token_id)
            self.num_tokens += 1
            calling |= token_id == tokenizer.begin_call_id
            if not calling and token_id < tokenizer.vocab_size:
                yield from self._say(decoder.push(token_id))
        yield from self._say(decoder.finish())

    def _ending(self, ids: Sequence[int]) -> Ending:
        if ids[-1] in self._speaker.engine.stop_ids:
            return "stop"
        return "length" if len(ids) == self._request.sampling.max_tokens else "context"

    def _say(self, piece: str) -> Iterator[str]:
        self._said += piece
        yield from self._add(piece)


def _line(call: ToolCall | BadCall, result: ToolResult) -> str:
    """A call and its result in a line: `⚙ calculator(expression="2 + 2") → 4`."""
    if isinstance(call, BadCall):
        return f"⚙ {call.text} → {result.text}"
    arguments = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items())
    return f"⚙ {call.name}({arguments}) → {result.text}"
