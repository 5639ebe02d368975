"""Messages as everyone writes them → `[{role, content}]` with our four roles, in an order a template can render."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.errors import DataError
from tutelage.sources.documents import storable
from tutelage.sources.rows import RowRefused
from tutelage.tools.calls import BadCall, call_of, parse_call

Message = dict[str, Any]  # role and content; an assistant's tool_calls and a tool's name are kept

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "customer", "instruction"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "chatgpt", "bot", "chatbot", "model", "agent", "ai", "bard", "bing"), "assistant"
    ),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "function_response"), "tool"),
    "function_call": "assistant",
}
_ROLE_KEYS = ("role", "from", "speaker", "author")
_CONTENT_KEYS = ("content", "value", "text", "message")
_KEPT = ("tool_calls", "tool_call_id", "name")
_MAY_FOLLOW = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}
_DIALOGUE = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \t]?")


def messages_of(value: Any) -> list[Message]:
    """Messages with normalised roles, not yet checked for order; anything but a list of messages is a RowRefused."""
    if not isinstance(value, list) or not value:
        raise RowRefused("messages are not a list, or an empty one", 'write [{"role": "user", "content": "…"}, …]')
    return [_message(item) for item in value]


def _message(item: Any) -> Message:
    if not isinstance(item, Mapping):
        raise RowRefused("a message is not an object", 'write each message as {"role": "user", "content": "…"}')
    kept = plain_json({key: item[key] for key in _KEPT if item.get(key)})
    if "tool_calls" in kept:
        kept["tool_calls"] = _calls(kept["tool_calls"])
    named = next((item[key] for key in _ROLE_KEYS if isinstance(item.get(key), str)), None)
    role = ROLES.get(named.strip().lower()) if named is not None else None
    if role is None:
        known = "user, assistant, system, tool"
        raise RowRefused("a message with an unknown role", f"the role is {named!r}: name one of {known}")
    content = next((item[key] for key in _CONTENT_KEYS if item.get(key) is not None), "")
    if named is not None and named.strip().lower() == "function_call":  # ShareGPT: the content is the call
        kept, content = {**kept, "tool_calls": [_written_call(_text(content))]}, ""
    if role != "assistant" and "tool_calls" in kept:
        raise RowRefused("tool calls that are not the assistant's", f"move the calls of role {role} to the assistant")
    return {"role": role, "content": _text(content), **kept}


def _calls(value: Any) -> list[dict[str, Any]]:
    """Calls in one form, arguments as objects."""
    if not isinstance(value, list):
        raise RowRefused("`tool_calls` is not a list", 'write [{"type": "function", "function": {…}}]')
    try:
        return [call_of(call).to_json() for call in value]
    except DataError as error:
        raise RowRefused("a tool call that is none", error.message) from error


def _written_call(text: str) -> dict[str, Any]:
    call = parse_call(text)
    if isinstance(call, BadCall):
        raise RowRefused("a tool call that is none", call.reason)
    return call.to_json()


def plain_json(value: dict[str, Any]) -> dict[str, Any]:
    """The value itself when JSON can hold it (Parquet also has bytes, dates and NaN), else a RowRefused."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RowRefused("a value that JSON cannot hold", f"in {', '.join(value)}: {error}") from error
    return value


def _text(content: Any) -> str:
    """A string, or the text of a list of text parts."""
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        content = "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    if not isinstance(content, str):
        raise RowRefused(
            "a message that is not text", f"its content is of type {type(content).__name__}: keep only text"
        )
    return storable(content)


def user(*parts: Any) -> Message:
    """A user's message of the parts that are there, with a blank line between them."""
    return {"role": "user", "content": "\n\n".join(_text(part).strip() for part in parts if part not in (None, ""))}


def assistant(content: Any) -> Message:
    """An assistant's message."""
    return {"role": "assistant", "content": _text(content)}


def check_order(messages: Sequence[Message], last: str = "assistant") -> list[Message]:
    """The messages, when none is empty, roles take turns and the last is of role `last`; otherwise a RowRefused."""
    before: str | None = None
    for position, message in enumerate(messages, start=1):
        role, content = message["role"], message["content"]
        if not content.strip() and not (role == "assistant" and message.get("tool_calls")):
            raise RowRefused(f"an empty {role} turn", f"message {position} is empty: write it or remove the row")
        if role not in _MAY_FOLLOW[before]:
            after = f"after {before}" if before else "first"
            mend = f"message {position} is of role {role}: expected {' or '.join(_MAY_FOLLOW[before])} there"
            raise RowRefused(f"turns out of order: {role} {after}", mend)
        before = role
    if before != last:
        missing = "no assistant turn to learn from" if last == "assistant" else "the prompt does not end with the user"
        if before == "user" and any(message["role"] == "assistant" for message in messages):
            missing = "the last user turn has no reply"
        raise RowRefused(missing, f"end the messages with a turn of role {last}, not {before}")
    return list(messages)


def dialogue_of(text: str) -> list[Message] | None:
    r"""The messages of a transcript `\n\nHuman: …\n\nAssistant: …`; None when the text is not one.

    The form of Bai et al. 2022, "Training a Helpful and Harmless Assistant".
    """
    marks = list(_DIALOGUE.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [
        {"role": ROLES[mark[1].lower()], "content": storable(text[mark.end() : end]).strip()}
        for mark, end in zip(marks, ends, strict=True)
    ]
