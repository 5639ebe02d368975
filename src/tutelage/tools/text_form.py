"""Calls as text in a message, `<tool_call>{…}</tool_call>`: for chat templates without a token that begins a call.

The form is that of Hermes and Qwen. Models from elsewhere know it, or can learn it without a new token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.tools.calls import BadCall, ToolCall, parse_call

OPEN, CLOSE = "<tool_call>", "</tool_call>"


def with_calls(content: str, calls: Sequence[ToolCall]) -> str:
    """A message's content with its calls after it, each on lines of its own."""
    written = [f"{OPEN}\n{call.text}\n{CLOSE}" for call in calls]
    return "\n".join([content, *written] if content else written)


def read_calls(text: str) -> tuple[str, list[ToolCall | BadCall]]:
    """The content before the first call, and the calls. What is said after a call is left out."""
    content, found, rest = text.partition(OPEN)
    if not found:
        return text, []
    calls: list[ToolCall | BadCall] = []
    while found:
        written, rest = _first(rest)
        calls.append(parse_call(written))
        _, found, rest = rest.partition(OPEN)
    return content.removesuffix("\n"), calls


def _first(text: str) -> tuple[str, str]:
    """A call and what follows it. JSON says itself where it ends: a text in it may have the name of the end."""
    text = text.lstrip()
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        written, _, rest = text.partition(CLOSE)
        return written, rest
    written, _, rest = text[end:].partition(CLOSE)
    return text[:end] + written, rest


def tools_prompt(tools: Sequence[Mapping[str, Any]]) -> str:
    """What a system message tells of the tools, where the template does not."""
    definitions = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    form = f'{OPEN}\n{{"name": "…", "arguments": {{…}}}}\n{CLOSE}'
    return f"You can call these tools:\n{definitions}\nTo call one, write\n{form}"
