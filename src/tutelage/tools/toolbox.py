"""Tools by name: their definitions for the prompt, and calls turned into results. A failure is a result too."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tutelage.errors import DataError, TutelageError
from tutelage.tools.calculator import CalculationError, calculate
from tutelage.tools.calls import BadCall, ToolCall
from tutelage.tools.python import run_python
from tutelage.tools.schema import check_schema, coerce, problems
from tutelage.tools.search import SearchIndex

MAX_RESULT = 2_000  # characters of a result that a model is shown
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}}


class ToolError(Exception):
    """Raised by a tool to say, to the model, why there is no result."""


@dataclass(frozen=True)
class ToolResult:
    """What a model is told about a call: `content` is an explanation where `failed`."""

    content: str
    failed: bool = False

    @property
    def text(self) -> str:
        """As it is written into the tool's turn."""
        return f"error: {self.content}" if self.failed else self.content


@dataclass(frozen=True)
class Tool:
    """A name, what it is for, the JSON Schema of its arguments, and the function that takes them by name."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Callable[..., Any]

    def to_json(self) -> dict[str, Any]:
        """The definition in the OpenAI form."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class Definition:
    """A tool that is only described, as data sets have them."""

    name: str
    description: str
    parameters: Mapping[str, Any]


def definition_of(value: Any, where: str = "tool") -> Definition:
    """A definition in the OpenAI form, or without its wrapping. DataError for what is none or cannot be checked."""
    inner = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str) or not NAME.fullmatch(inner["name"]):
        raise DataError(
            f"{where}: no tool definition, or one without a name of letters, digits, _ . -: {value!r:.120}",
            hint='write {"type": "function", "function": {"name": "…", "description": "…", "parameters": {…}}}',
        )
    parameters = inner.get("parameters") or NO_ARGUMENTS
    check_schema(parameters, f"{where} {inner['name']}: parameters")
    if parameters.get("type") != "object":
        raise DataError(
            f"{where} {inner['name']}: parameters are of type {parameters.get('type')!r}",
            hint='arguments have names: write {"type": "object", "properties": {…}}',
        )
    return Definition(inner["name"], str(inner.get("description") or ""), parameters)


class Toolbox:
    """Some tools by their names. DataError for a name twice, or a definition that cannot be checked."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self.tools: dict[str, Tool] = {}
        for tool in tools:
            definition_of(tool.to_json())
            if tool.name in self.tools:
                raise DataError(f"two tools are named {tool.name!r}", hint="give one of them another name")
            self.tools[tool.name] = tool

    @property
    def definitions(self) -> list[dict[str, Any]]:
        """As chat templates and servers take them."""
        return [tool.to_json() for tool in self.tools.values()]

    def settle(self, call: ToolCall) -> ToolCall | BadCall:
        """The call as it will be run: name and arguments checked, mended where only one thing can be meant."""
        return settle(call, list(self.tools.values()))

    def run(self, call: ToolCall | BadCall) -> ToolResult:
        """Run a settled call. What a model wrote or a tool did is never an error here; a missing program is."""
        if isinstance(call, BadCall):
            return ToolResult(call.reason, failed=True)
        try:
            value = self.tools[call.name].run(**call.arguments)
        except ToolError as error:
            return ToolResult(shortened(str(error)), failed=True)
        except TutelageError:
            raise
        except Exception as error:  # whatever a user's function raises is for the model to read
            return ToolResult(shortened(f"{type(error).__name__}: {error}"), failed=True)
        return ToolResult(shortened(_as_text(value)))


def settle(call: ToolCall, tools: Sequence[Tool | Definition]) -> ToolCall | BadCall:
    """A call checked against the tools offered; what cannot be mended is a BadCall that says what to do."""
    names = {tool.name: tool for tool in tools}
    name, repairs = call.name, list(call.repairs)
    if name not in names:
        alike = [other for other in names if other.casefold() == name.strip().casefold()]
        if len(alike) != 1:
            near = difflib.get_close_matches(name, list(names), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the tools are: {', '.join(names) or 'none'}"
            return BadCall(call.text, f"there is no tool {name!r}; {hint}")
        repairs.append(f"{name!r} read as {alike[0]!r}")
        name = alike[0]
    arguments = coerce(call.arguments, names[name].parameters)
    if json.dumps(arguments) != json.dumps(call.arguments):
        repairs.append("arguments made of the type that is due")
    wrong = problems(arguments, names[name].parameters)
    if wrong:
        return BadCall(call.text, "; ".join(wrong))
    return replace(call, name=name, arguments=arguments, repairs=tuple(repairs))


def shortened(text: str) -> str:
    """At most MAX_RESULT characters; what is left out is said."""
    return text if len(text) <= MAX_RESULT else f"{text[:MAX_RESULT]} … ({len(text) - MAX_RESULT} characters more)"


def _as_text(value: Any) -> str:
    """Text as it is, all else as JSON, as far as it is JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def calculator() -> Tool:
    """Exact arithmetic."""

    def run(expression: str) -> str:
        try:
            return calculate(expression)
        except CalculationError as error:
            raise ToolError(str(error)) from error

    return _with_text("calculator", "Work out an expression.", "expression", run)


def python() -> Tool:
    """Python in the sandbox."""

    def run(code: str) -> str:
        ran = run_python(code)
        if ran.error:
            raise ToolError(f"{ran.error}" + (f"\noutput before: {ran.output}" if ran.output else ""))
        return ran.output.rstrip("\n") or "(no output)"

    return _with_text("python", "Run Python code; see what it prints and its last value.", "code", run)


def search(index: SearchIndex) -> Tool:
    """Search over a corpus."""

    def run(query: str) -> str:
        found = index.search(query)
        return "\n".join(f"{p.title}: {p.text}" if p.title else p.text for p in found) or "(nothing found)"

    return _with_text("search", "Search the library for passages.", "query", run)


def _with_text(name: str, description: str, argument: str, run: Callable[[str], str]) -> Tool:
    parameters = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return Tool(name, description, parameters, run)


BUILT_IN = ("calculator", "python", "search")
"""Tools that come along; anything else is a function of the user's, as `package.module:function`."""
