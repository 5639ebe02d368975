"""What is measured of tool use: right answers with tools and without, the right tool, its arguments, and no call."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tutelage.errors import DataError
from tutelage.evaluation.harness import Measured, Row, Subject
from tutelage.evaluation.outcome import Outcome
from tutelage.generation.guidance import guided_calls
from tutelage.generation.sampling import Sampling
from tutelage.tools import toolbox
from tutelage.tools.calls import BadCall, ToolCall
from tutelage.tools.toolbox import Tool, Toolbox, definition_of, settle

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_RUN: Mapping[str, Callable[[], Tool]] = {"calculator": toolbox.calculator, "python": toolbox.python}
Calls = Sequence[ToolCall | BadCall]


def answers_with_tools(subject: Measured, rows: Sequence[Row], sampling: Sampling) -> Outcome:
    """The answer after the calls has the right numbers, in order, and no others; of the calls, which were right as
    they were written.
    """
    dialogues = subject.converse(rows, _toolbox(rows), sampling)
    hits = [same_numbers(dialogue.text, row["answer"]) for dialogue, row in zip(dialogues, rows, strict=True)]
    return Outcome("accuracy", hits, more={"valid_calls": _valid(dialogue.calls for dialogue in dialogues)})


def answers_without(subject: Measured, rows: Sequence[Row], sampling: Sampling) -> Outcome:
    """The same without any tool."""
    answers = subject.reply(rows, sampling)
    return Outcome("accuracy", [same_numbers(a.text, row["answer"]) for a, row in zip(answers, rows, strict=True)])


def choices_of_tools(subject: Measured, rows: Sequence[Row], sampling: Sampling) -> Outcome:
    """The first turn calls the tools that are right, each once, and no others; `right_arguments`: with the right
    arguments too; `valid_calls`: of all calls, those that could be run as they were written. `guided/…`: the same with
    calls guided by the definitions, as chat and server do it; only of models at hand whose calls can be guided.
    """
    more = _choices(subject.turns(rows, sampling), rows)
    if isinstance(subject, Subject) and all(guided_calls(subject.tokenizer, row["meta"]["tools"]) for row in rows):
        guided = _choices(subject.turns(rows, sampling, guided=True), rows)
        more |= {f"guided/{name}": hits for name, hits in guided.items()}
    return Outcome("right_tool", more.pop("right_tool"), more=more)


def _choices(turns: Sequence[tuple[str, Calls]], rows: Sequence[Row]) -> dict[str, list[bool]]:
    settled = [_settled(calls, row) for (_, calls), row in zip(turns, rows, strict=True)]
    wanted = [[(call["name"], call["arguments"]) for call in row["meta"]["calls"]] for row in rows]
    pairs = list(zip(settled, wanted, strict=True))
    return {
        "right_tool": [_names(calls) == sorted(name for name, _ in right) for calls, right in pairs],
        "right_arguments": [_same_calls(calls, right) for calls, right in pairs],
        "valid_calls": _valid(settled),
    }


def abstentions(subject: Measured, rows: Sequence[Row], sampling: Sampling) -> Outcome:
    """The first turn calls nothing, although tools are offered."""
    return Outcome("no_call_rate", [not calls for _, calls in subject.turns(rows, sampling)])


def same_numbers(text: str, answer: str) -> bool:
    """Whether a text has exactly the numbers of an answer, in its order."""
    return _NUMBER.findall(text) == _NUMBER.findall(answer)


def _toolbox(rows: Sequence[Row]) -> Toolbox:
    names = {name for row in rows for name in row["meta"]["tools"]}
    unknown = sorted(names - set(_RUN))
    if unknown:
        raise DataError(
            f"task {rows[0]['task']!r}: the tool {unknown[0]!r} cannot be run in an evaluation",
            hint=f"those that can: {', '.join(_RUN)}",
        )
    return Toolbox(_RUN[name]() for name in sorted(names))


def _settled(calls: Calls, row: Row) -> list[ToolCall | BadCall]:
    """The calls checked against the tools that this row offers."""
    offered = [definition_of(tool, f"item {row['id']}: tool") for tool in row["meta"]["tools"]]
    return [settle(call, offered) if isinstance(call, ToolCall) else call for call in calls]


def _names(calls: Calls) -> list[str]:
    return sorted(call.name if isinstance(call, ToolCall) else "" for call in calls)


def _same_calls(calls: Calls, right: Sequence[tuple[str, Mapping[str, Any]]]) -> bool:
    """The same calls in any order: those of one turn do not know of each other."""
    left = [(call.name, call.arguments) if isinstance(call, ToolCall) else None for call in calls]
    for call in right:
        if call not in left:
            return False
        left.remove(call)
    return not left


def _valid(turns: Any) -> list[bool]:
    return [isinstance(call, ToolCall) and not call.repairs for calls in turns for call in calls]
