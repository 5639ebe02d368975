"""One reply as it is drawn, and Ctrl-C that stops it and nothing else."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, TracebackType
from typing import Any, Literal

from tutelage.data.tokenizer import IncrementalDecoder
from tutelage.generation.engine import Request
from tutelage.generation.sampling import Sampling
from tutelage.talk.speaker import Speaker

Ending = Literal["stop", "length", "context", "rounds", "cut"]


class Speech:
    """A reply that is being drawn: iterate over its pieces; `text` is what has come so far.

    `ended` says how it ended: by itself, at `max_tokens`, at the end of the context, or cut by the listener (and with
    tools: after more rounds of calls than are allowed). `leaks` counts the private strings that a guard masked.
    """

    leaks = 0

    def __init__(self, speaker: Speaker, prompt_ids: Sequence[int], sampling: Sampling, seed: int) -> None:
        self._speaker = speaker
        self._request = Request(prompt_ids, sampling, seed)
        self.text = ""
        self.num_tokens = 0
        self.ended: Ending = "cut"

    def __iter__(self) -> Iterator[str]:
        tokenizer = self._speaker.tokenizer
        decoder = IncrementalDecoder(tokenizer)
        last = -1
        for last in self._speaker.engine.stream(self._request):
            self.num_tokens += 1
            # an embedding may have more rows than the tokenizer has tokens: those stand for nothing
            yield from self._add(decoder.push(last) if last < tokenizer.vocab_size else "")
        yield from self._add(decoder.finish())
        if last in self._speaker.engine.stop_ids:
            self.ended = "stop"
        else:
            self.ended = "length" if self.num_tokens == self._request.sampling.max_tokens else "context"

    @property
    def reply(self) -> str:
        """What the model said, without what is only shown."""
        return self.text

    def messages(self) -> list[dict[str, Any]]:
        """The turns that it adds to a conversation."""
        return [{"role": "assistant", "content": self.text}]

    def _add(self, piece: str) -> Iterator[str]:
        if piece:
            self.text += piece
            yield piece


class CtrlC:
    """While entered, Ctrl-C sets `pressed`; only inside `listen` it also interrupts, so that nothing is half done."""

    def __init__(self) -> None:
        self.pressed = False
        self._waiting = False

    def __enter__(self) -> CtrlC:
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        if self._waiting:  # a long prompt takes a while before its first token
            raise KeyboardInterrupt

    def listen(self, pieces: Iterator[str]) -> str | None:
        """The next piece; None at the end, or once Ctrl-C was pressed."""
        try:
            self._waiting = True
            piece = None if self.pressed else next(pieces, None)
            self._waiting = False
        except KeyboardInterrupt:
            self._waiting = False
            return None
        return piece


def speak(speech: Speech, write: Callable[[str], None]) -> bool:
    """Write a reply piece by piece until it ends or Ctrl-C is pressed; returns whether it was cut."""
    with CtrlC() as ctrl_c:
        pieces = iter(speech)
        written = 0
        while (piece := ctrl_c.listen(pieces)) is not None:
            write(piece)
            written += len(piece)
        if written < len(speech.text):  # interrupted between a piece and its being handed over
            write(speech.text[written:])
    return ctrl_c.pressed and speech.ended == "cut"
