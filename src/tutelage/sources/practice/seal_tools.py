"""Seal-Tools (Wu et al., arXiv 2405.08355): requests with the calls that they need, over thousands of described tools.

A folder of `tool.jsonl` (the tools) and files of requests beside it. Requests with arguments that are other calls'
results (`API_call_3`) are refused: what those results are is not in the data.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tutelage.errors import DataError
from tutelage.sources.files import SourceFile
from tutelage.sources.practice.rows import Row, is_held_out, item, row_hash
from tutelage.sources.records import records
from tutelage.sources.rows import ProblemLog, RowRefused
from tutelage.tools.calls import BadCall, ToolCall
from tutelage.tools.toolbox import Definition, definition_of, settle

TOOLS_FILE = "tool.jsonl"
_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


class SealTools:
    """The tools by name and by field; `RowRefused` rows of tools go to the log."""

    def __init__(self, folder: Path, log: ProblemLog) -> None:
        path = folder / TOOLS_FILE
        if not path.is_file():
            raise DataError(
                f"{folder} has no {TOOLS_FILE}", hint="name the folder of Seal-Tools: tool.jsonl, dev.jsonl"
            )
        self.definitions: dict[str, dict[str, Any]] = {}
        self._checked: dict[str, Definition] = {}
        self._fields: dict[str, list[str]] = defaultdict(list)
        for record in records(SourceFile(path, path.name), log):
            try:
                definition = _definition(record.row)
                checked = definition_of(definition)
            except RowRefused as refused:
                log.refuse(str(path), record.line, refused)
                continue
            except DataError as error:
                log.refuse(str(path), record.line, RowRefused("a tool that cannot be checked", error.message))
                continue
            if checked.name not in self.definitions:
                self._fields[str(record.row.get("field"))].append(checked.name)
            self.definitions[checked.name], self._checked[checked.name] = definition, checked
        self._field_of = {name: field for field, names in self._fields.items() for name in names}

    def read(
        self, files: Iterable[SourceFile], most_others: int, held_out: float, seed: int, log: ProblemLog
    ) -> _Split:
        """(conversations, held-out items): requests that need a held-out tool are items, never learnt from."""
        learnt: list[Row] = []
        held: list[Row] = []
        for file in files:
            for record in records(file, log):
                try:
                    request, calls = self._request(record.row)
                except RowRefused as refused:
                    log.refuse(str(file.path), record.line, refused)
                    continue
                unseen = [is_held_out(call.name, held_out) for call in calls]
                tools = self._offer(random.Random(f"{seed}/{request}"), calls, most_others)
                if any(unseen):
                    held.append(item("seal_tools_unseen", "seal_tools", request, tools=tools, calls=calls))
                else:
                    learnt.append(_conversation(request, calls, tools))
        return learnt, held

    def _request(self, row: Mapping[str, Any]) -> tuple[str, list[ToolCall]]:
        request, calling = row.get("query"), row.get("calling")
        if not isinstance(request, str) or not isinstance(calling, list) or not calling:
            raise RowRefused(
                "no request with calls", 'write {"query": "…", "calling": [{"api": "…", "parameters": {…}}]}'
            )
        return request, [self._call(call) for call in calling]

    def _call(self, value: Any) -> ToolCall:
        if not isinstance(value, Mapping) or not isinstance(value.get("parameters"), dict):
            raise RowRefused("a call without parameters", 'write {"api": "…", "parameters": {…}}')
        name = str(value.get("api"))
        if name not in self._checked:
            raise RowRefused("a call of a tool that is not described", f"describe {name} in {TOOLS_FILE}")
        if "API_call_" in json.dumps(value["parameters"]):
            raise RowRefused("an argument that is another call's result", "what that result is, the data does not say")
        settled = settle(ToolCall(name, value["parameters"]), [self._checked[name]])
        if isinstance(settled, BadCall):
            raise RowRefused("a call that does not fit its tool", f"{name}: {settled.reason}")
        return ToolCall(settled.name, settled.arguments)

    def _offer(self, rng: random.Random, calls: list[ToolCall], most_others: int) -> list[dict[str, Any]]:
        """The tools that are needed among others of their fields, in a random order."""
        wanted = {call.name for call in calls}
        alike = sorted({name for one in wanted for name in self._fields[self._field_of[one]]} - wanted)
        others = rng.sample(alike, min(len(alike), most_others))
        names = sorted(wanted) + others
        rng.shuffle(names)
        return [self.definitions[name] for name in names]


_Split = tuple[list[Row], list[Row]]


def _conversation(request: str, calls: list[ToolCall], tools: list[dict[str, Any]]) -> Row:
    """It ends with the calls: the data has no results."""
    called = [call.to_json() for call in calls]
    messages: list[Row] = [
        {"role": "user", "content": request},
        {"role": "assistant", "content": "", "tool_calls": called},
    ]
    name = row_hash(messages, tools)
    return {"id": name, "messages": messages, "tools": tools, "source": "seal_tools", "tags": ["seal_tools"]}


def _definition(row: Mapping[str, Any]) -> dict[str, Any]:
    parameters = row.get("parameters")
    if not isinstance(parameters, Mapping):
        raise RowRefused("a tool without parameters", 'write {"api_name": "…", "parameters": {…}, "required": […]}')
    properties = {name: _schema(name, entry) for name, entry in parameters.items()}
    required = [name for name in row.get("required") or [] if name in properties]
    schema = {"type": "object", "properties": properties, "required": required}
    function = {"name": row.get("api_name"), "description": row.get("api_description") or "", "parameters": schema}
    return {"type": "function", "function": function}


def _schema(name: str, entry: Any) -> dict[str, Any]:
    kind = _TYPES.get(str(entry.get("type"))) if isinstance(entry, Mapping) else None
    if kind is None:
        raise RowRefused("an argument of an unknown type", f"{name}: types are {', '.join(_TYPES)}")
    return {"type": kind, **({"description": entry["description"]} if entry.get("description") else {})}
