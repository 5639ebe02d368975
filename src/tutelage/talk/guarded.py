"""A reply that is held back until it is whole and shown without the private strings that nobody told it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tutelage.privacy.guard import masked
from tutelage.talk.stream import Ending, Speech


class GuardedSpeech(Speech):
    """Another speech with every leak masked: in what is shown, and in the turns that enter the conversation."""

    def __init__(self, inner: Speech, before: Sequence[Mapping[str, Any]]) -> None:
        self._inner, self._before = inner, before
        self._messages: list[dict[str, Any]] | None = None
        self.text = ""
        self.num_tokens = 0
        self.ended: Ending = "cut"

    def __iter__(self) -> Iterator[str]:
        for _ in self._inner:
            pass
        self.ended, self.num_tokens = self._inner.ended, self._inner.num_tokens
        self._messages = self._masked()
        results = [message for message in self._messages if message["role"] == "tool"]
        shown, self.leaks = masked(self._inner.text, [*self._before, *results])
        yield from self._add(shown)

    @property
    def reply(self) -> str:
        """What the model said last, masked."""
        return str(self.messages()[-1]["content"])

    def messages(self) -> list[dict[str, Any]]:
        """The turns that it adds to a conversation; a reply that was stopped was never shown, and is empty."""
        return [{"role": "assistant", "content": ""}] if self._messages is None else self._messages

    def _masked(self) -> list[dict[str, Any]]:
        turns: list[dict[str, Any]] = []
        for message in self._inner.messages():
            if message["role"] == "assistant":
                message = {**message, "content": masked(message["content"], [*self._before, *turns])[0]}
            turns.append(message)
        return turns
