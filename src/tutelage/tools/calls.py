"""Calls as text, `{"name": …, "arguments": {…}}`: written in one way, mended where only one thing can be meant.

The OpenAI form around it (`{"type": "function", "function": {"name", "arguments"}}`, arguments as text there) is taken
and brought to one form: arguments are an object.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.errors import DataError

MAX_CALL = 20_000  # characters of a call that are looked at


@dataclass(frozen=True)
class ToolCall:
    """Which tool, with which arguments. `repairs` say what was mended in the model's text, nothing if it was right."""

    name: str
    arguments: dict[str, Any]
    id: str = ""
    repairs: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """In the OpenAI form, with arguments as an object, as chat templates expect them."""
        call = {"type": "function", "function": {"name": self.name, "arguments": self.arguments}}
        return {"id": self.id, **call} if self.id else call

    @property
    def text(self) -> str:
        """As templates write it and as models are to write it."""
        return json.dumps({"name": self.name, "arguments": self.arguments}, ensure_ascii=False)


@dataclass(frozen=True)
class BadCall:
    """What a model wrote where a call was due, and why it is none."""

    text: str
    reason: str


def call_of(value: Any) -> ToolCall:
    """A call from a message's `tool_calls`, in the OpenAI form or bare. DataError says what it lacks."""
    inner = value.get("function", value) if isinstance(value, Mapping) else None
    example = '{"type": "function", "function": {"name": "calculator", "arguments": {"expression": "2 + 2"}}}'
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str) or not inner["name"]:
        raise DataError(f"a tool call without a name: {value!r:.120}", hint=f"write {example}")
    arguments = inner.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = _strict(arguments or "{}")
        except ValueError as error:
            raise DataError(
                f"the arguments of {inner['name']!r} are no JSON: {error}", hint=f"write {example}"
            ) from error
    if not isinstance(arguments, dict):
        raise DataError(f"the arguments of {inner['name']!r} are no object: {arguments!r:.80}", hint=f"write {example}")
    identifier = value.get("id")
    return ToolCall(inner["name"], arguments, identifier if isinstance(identifier, str) else "")


def parse_call(text: str) -> ToolCall | BadCall:
    """The call that a model wrote.

    Mended, and told in `repairs`: closing brackets that are missing or too many, Python's quotes and words for JSON's,
    a comma too many, arguments written as text, `parameters` for `arguments`. A text that ends inside a string is not
    mended: what is missing cannot be known.
    """
    text = text.strip()
    if not text:
        return BadCall(text, "the call is empty")
    if len(text) > MAX_CALL:
        return BadCall(text, f"the call has {len(text)} characters, more than {MAX_CALL}")
    repairs: list[str] = []
    try:
        value = _strict(text)
    except ValueError as error:
        value, repair = _mended(text)
        if not repair:
            return BadCall(text, f"the call is not JSON ({error})")
        repairs.append(repair)
    return _checked(value, text, repairs)


def _checked(value: Any, text: str, repairs: list[str]) -> ToolCall | BadCall:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
        repairs.append("a call without its wrapping was meant")
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return BadCall(text, 'the call has no name: expected {"name": "…", "arguments": {…}}')
    if "arguments" not in value and isinstance(value.get("parameters"), dict):
        value = {"arguments" if key == "parameters" else key: entry for key, entry in value.items()}
        repairs.append("`parameters` read as `arguments`")
    arguments = value.get("arguments", {})
    if "arguments" not in value:
        repairs.append("no `arguments`: read as none")
    if isinstance(arguments, str):
        try:
            arguments = _strict(arguments or "{}")
        except ValueError:
            return BadCall(text, "`arguments` is a text: expected an object")
        repairs.append("`arguments` was JSON in a text")
    if not isinstance(arguments, dict):
        return BadCall(text, f"`arguments` is {json.dumps(arguments)[:40]}: expected an object")
    unknown = sorted(set(value) - {"name", "arguments", "id", "type"})
    if unknown:
        return BadCall(text, f"the call has an unknown {unknown[0]!r} beside `name` and `arguments`")
    return ToolCall(value["name"], arguments, repairs=tuple(repairs))


def _strict(text: str) -> Any:
    """JSON without NaN; ValueError also for what is nested too deeply."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _mended(text: str) -> tuple[Any, str]:
    """What can only have been meant, and how the text was mended; ("", "") if nothing fits."""
    balanced, how = _balanced(text)
    attempts = [(balanced, how)] if how else []
    for candidate, repair in attempts:
        try:
            return _strict(candidate), repair
        except ValueError:
            continue
    for candidate, repair in [(text, ""), *attempts]:
        value = _python_literal(candidate)
        if isinstance(value, dict):
            return value, "; ".join(part for part in (repair, "written as Python, not as JSON") if part)
    return "", ""


def _balanced(text: str) -> tuple[str, str]:
    """The text with closing brackets added at its end or the surplus cut off; how, or "" if nothing helps."""
    closing = {"{": "}", "[": "]"}
    due: list[str] = []
    quote, escaped = "", False
    for place, letter in enumerate(text):
        if quote:
            if escaped:
                escaped = False
            elif letter == "\\":
                escaped = True
            elif letter == quote:
                quote = ""
        elif letter in "\"'":
            quote = letter
        elif letter in closing:
            due.append(closing[letter])
        elif letter in "}]":
            if not due or due.pop() != letter:
                return text, ""
            if not due:
                rest = text[place + 1 :]
                if rest.strip() and not rest.strip(" \n}]"):
                    return text[: place + 1], "closing brackets too many"
    if quote or not due:
        return text, ""
    return text + "".join(reversed(due)), "closing brackets missing"


def _python_literal(text: str) -> Any:
    """A dict of JSON's values written as Python would (or with JSON's true, false, null in it); else None."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of backslashes that mean nothing
            tree = ast.parse(text, mode="eval")
        named = {"true": True, "false": False, "null": None}
        for node in ast.walk(tree):
            for field, inner in ast.iter_fields(node):
                if isinstance(inner, ast.Name) and inner.id in named:
                    setattr(node, field, ast.Constant(named[inner.id]))
                elif isinstance(inner, list):
                    inner[:] = [
                        ast.Constant(named[item.id]) if isinstance(item, ast.Name) and item.id in named else item
                        for item in inner
                    ]
        value = ast.literal_eval(tree)
        return value if _strict(json.dumps(value, allow_nan=False)) == value else None
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
