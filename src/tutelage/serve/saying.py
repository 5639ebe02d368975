"""What a reply says: its text and its calls, whole at the end or piece by piece, without taking anything back."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tutelage.data.tokenizer import IncrementalDecoder, TextTokenizer
from tutelage.data.tool_calls import read_reply
from tutelage.errors import DataError
from tutelage.generation.request import Reply
from tutelage.tools.calls import BadCall, ToolCall
from tutelage.tools.text_form import OPEN
from tutelage.tools.toolbox import Definition, definition_of, settle


@dataclass(frozen=True)
class Said:
    """A reply taken apart; `finish_reason` as the protocol names it."""

    text: str
    finish_reason: str
    calls: list[dict[str, Any]] = field(default_factory=list)

    @property
    def message(self) -> dict[str, Any]:
        """The message of the assistant."""
        content = None if self.calls and not self.text else self.text
        calls = {"tool_calls": self.calls} if self.calls else {}
        return {"role": "assistant", "content": content, "refusal": None, **calls}


@dataclass(frozen=True)
class Offer:
    """The tools that a request offers; `one_call`: of several calls the first counts."""

    tools: Sequence[Mapping[str, Any]] = ()
    one_call: bool = False


def read(tokenizer: TextTokenizer, reply: Reply, offer: Offer) -> Said:
    """The whole reply. A call that is none stays text; so does one that was cut short."""
    ended_turn = bool(reply.ids) and reply.ids[-1] in tokenizer.stop_ids
    cut_by_string = reply.text is not None and reply.finish_reason == "stop" and not ended_turn
    plain = plain_text(tokenizer, reply)
    if not offer.tools or cut_by_string:
        return Said(plain, reply.finish_reason)
    text, calls = read_reply(tokenizer, reply.ids)
    known = _definitions(offer.tools)
    good: list[ToolCall] = []
    for place, call in enumerate(calls):
        unfinished = reply.finish_reason == "length" and place == len(calls) - 1
        if isinstance(call, BadCall) or (unfinished and call.repairs):
            text = "\n".join(part for part in (text, call.text) if part)
        else:
            good.append(_settled(call, known))
    good = good[:1] if offer.one_call else good
    ended = "tool_calls" if good and reply.finish_reason == "stop" else reply.finish_reason
    return Said(text, ended, [_written(call) for call in good])


def plain_text(tokenizer: TextTokenizer, reply: Reply) -> str:
    """The reply as text; special tokens are silent."""
    return tokenizer.decode(reply.ids) if reply.text is None else reply.text


class Pieces:
    """Text that is told while it is drawn. Held back: incomplete characters, beginnings of stop strings, calls."""

    def __init__(self, tokenizer: TextTokenizer, stops: Sequence[str], offer: Offer) -> None:
        self._tokenizer, self._decoder = tokenizer, IncrementalDecoder(tokenizer)
        self._calling_id = tokenizer.begin_call_id if offer.tools else None
        as_text = offer.tools and tokenizer.begin_call_id is None
        self._marks = [*stops, *(["\n" + OPEN, OPEN] if as_text else [])]
        self._text, self._told, self._calls = "", 0, False

    def push(self, token_id: int) -> str:
        """The text that is certain with this token."""
        self._calls |= token_id == self._calling_id
        if self._calls or token_id >= self._tokenizer.vocab_size:
            return ""
        self._text += self._decoder.push(token_id)
        return self._tell(self._certain())

    def push_all(self, token_ids: Sequence[int]) -> tuple[str, int]:
        """The text that is certain with these tokens, and of how many of them it is made."""
        parts = [self.push(token_id) for token_id in token_ids]
        return "".join(parts), max((place for place, part in enumerate(parts, 1) if part), default=0)

    def finish(self, text: str) -> str:
        """What is left of the whole text."""
        assert text.startswith(self._text[: self._told])
        self._text = text
        return self._tell(len(text))

    def _certain(self) -> int:
        """How much of the text no stop string can take back."""
        end = len(self._text)
        for mark in self._marks:
            found = self._text.find(mark, max(0, self._told - len(mark)))
            if found >= 0:
                end = min(end, found)
                continue
            for length in range(min(len(mark) - 1, len(self._text)), 0, -1):
                if self._text.endswith(mark[:length]):
                    end = min(end, len(self._text) - length)
                    break
        return max(end, self._told)

    def _tell(self, end: int) -> str:
        piece, self._told = self._text[self._told : end], end
        return piece


def _definitions(tools: Sequence[Mapping[str, Any]]) -> dict[str, Definition]:
    """Those whose arguments can be checked here; the client checks the others."""
    known = {}
    for tool in tools:
        try:
            definition = definition_of(tool)
        except DataError:
            continue
        known[definition.name] = definition
    return known


def _settled(call: ToolCall, known: Mapping[str, Definition]) -> ToolCall:
    settled = settle(call, list(known.values())) if known else call
    return settled if isinstance(settled, ToolCall) else call


def _written(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
