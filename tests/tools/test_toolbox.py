from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import DataError, RecipeError
from tutelage.tools import toolbox
from tutelage.tools.calls import BadCall, ToolCall
from tutelage.tools.functions import import_tool
from tutelage.tools.schema import problems
from tutelage.tools.search import SearchIndex
from tutelage.tools.toolbox import MAX_RESULT, NO_ARGUMENTS, Tool, Toolbox, definition_of

PAGES = [
    {"id": "1", "title": "Paris", "text": "Paris is the capital of France. It lies on the Seine."},
    {"id": "2", "title": "Madrid", "text": "Madrid is the capital of Spain, and France lies to its north."},
    {"id": "3", "title": None, "text": "Iron is a metal. " + "Nothing else is said of metals here. " * 20},
]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("sample_tools", None)


def test_built_in_tools_answer() -> None:
    box = Toolbox([toolbox.calculator(), toolbox.python(), toolbox.search(SearchIndex(PAGES))])
    results = [
        box.run(call)
        for call in (
            ToolCall("calculator", {"expression": "12 * 12"}),
            ToolCall("calculator", {"expression": "1 / 0"}),
            ToolCall("python", {"code": "sum(range(5))"}),
            ToolCall("python", {"code": "print(1)\n1 / 0"}),
            ToolCall("python", {"code": "x = 1"}),
            ToolCall("search", {"query": "capital of France"}),
            ToolCall("search", {"query": "zebra"}),
        )
    ]
    assert [result.text for result in results[:5]] == [
        "144",
        "error: division by zero",
        "10",
        "error: ZeroDivisionError: division by zero (line 2)\noutput before: 1\n",
        "(no output)",
    ]
    assert results[5].content.startswith("Paris: Paris is the capital of France.")
    assert results[6].content == "(nothing found)"


def test_a_tool_that_raises_or_floods_is_a_result() -> None:
    def run(kind: str) -> Any:
        if kind == "raise":
            raise KeyError("x")
        return "x" * 10_000 if kind == "flood" else {"kind": kind, "set": {1}}

    schema = {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]}
    box = Toolbox([Tool("tool", "A tool.", schema, run)])
    raised, flooded, other = (box.run(ToolCall("tool", {"kind": kind})) for kind in ("raise", "flood", "other"))
    assert raised.text == "error: KeyError: 'x'"
    assert len(flooded.text) < MAX_RESULT + 40
    assert flooded.text.endswith(f"({10_000 - MAX_RESULT} characters more)")
    assert other.text == '{"kind": "other", "set": "{1}"}'
    assert box.run(BadCall("{", "it is not JSON")).text == "error: it is not JSON"


def test_definitions_are_checked() -> None:
    tool = toolbox.calculator()
    assert definition_of(tool.to_json()).parameters == tool.parameters
    assert definition_of({"name": "ping"}).parameters == NO_ARGUMENTS
    with pytest.raises(DataError, match="two tools are named 'calculator'"):
        Toolbox([tool, tool])
    for wrong in (None, {}, {"name": "two words"}, {"function": {"name": ""}}):
        with pytest.raises(DataError, match="no tool definition"):
            definition_of(wrong)
    with pytest.raises(DataError, match="arguments have names"):
        definition_of({"name": "f", "parameters": {"type": "string"}})
    with pytest.raises(DataError, match=r"tool f: parameters\.a: there is no type"):
        definition_of({"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "int"}}}})


def test_a_function_becomes_a_tool() -> None:
    tool = import_tool("sample_tools:forecast")
    assert tool.to_json() == {
        "type": "function",
        "function": {
            "name": "forecast",
            "description": "The weather in the days to come, as the almanac has it.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Where."},
                    "days": {"type": "integer", "description": "How far ahead."},
                    "unit": {"enum": ["C", "F"]},
                },
                "required": ["city"],
            },
        },
    }
    box = Toolbox([tool, import_tool("sample_tools:average")])
    assert box.run(ToolCall("forecast", {"city": "Rome"})).text == '{"city": "Rome", "days": 1, "unit": "C"}'
    assert box.run(ToolCall("average", {"numbers": [1, 2]})).text == "1.5"
    assert box.run(ToolCall("average", {"numbers": []})).text == "error: ZeroDivisionError: division by zero"
    average = box.tools["average"].parameters
    assert average["properties"]["numbers"]["description"] == "at least one"
    assert problems({"numbers": [1.5], "note": None}, average) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("calculater", "neither built in"),
        ("no_such_module:f", "No module named"),
        ("sample_tools:nothing", "no function 'nothing'"),
        ("sample_tools:Any", "no function 'Any'"),
        ("sample_tools:silent", "no docstring"),
        ("sample_tools:untyped", "no type hint"),
        ("sample_tools:strange", "JSON does not have"),
        ("sample_tools:many", "cannot be given by name"),
    ],
)
def test_a_function_that_cannot_be_a_tool_says_why(path: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        import_tool(path)


def test_search_ranks_and_cuts() -> None:
    index = SearchIndex(PAGES)
    assert len(index) == 3
    assert index.search("What is the capital of Spain?")[0].document == "2"
    assert [passage.document for passage in index.search("metals")] == ["3"]
    assert len(index.search("metals")[0].text.split()) <= 42
    assert len(index.search("the capital", count=1)) == 1
    assert index.search("?!") == []


@given(query=st.text(max_size=60) | st.text(alphabet='"*():^-+ANDORNEAR\x00 ', max_size=30))
def test_no_query_is_taken_for_an_operator(query: str) -> None:
    assert len(SearchIndex(PAGES).search(query)) <= 3
