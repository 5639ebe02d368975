"""Conversations with tools: what is generated is true and held out, what is read is confirmed."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import DataError
from tutelage.sources.files import SourceFile
from tutelage.sources.practice import arithmetic, functions
from tutelage.sources.practice.annotated import annotated_conversation
from tutelage.sources.practice.rows import is_held_out
from tutelage.sources.practice.seal_tools import SealTools
from tutelage.sources.practice.words import Words, never_learnt
from tutelage.sources.rows import ProblemLog, RowRefused
from tutelage.tools.calculator import calculate
from tutelage.tools.calls import ToolCall, call_of
from tutelage.tools.toolbox import Definition, Toolbox, calculator, definition_of, settle

Row = dict[str, Any]


def calls_of(row: Row) -> list[ToolCall]:
    return [call_of(call) for message in row["messages"] for call in message.get("tool_calls", ())]


def offered(row: Row) -> list[Definition]:
    return [definition_of(tool) for tool in row.get("tools", row.get("meta", {}).get("tools", ()))]


def check_turns(row: Row) -> None:
    """Every round of calls is followed by as many results, and every call fits a tool that is offered."""
    for call in calls_of(row):
        settled = settle(call, offered(row))
        assert settled == call, row
    waiting = 0
    for message in row["messages"]:
        if message["role"] == "tool":
            waiting -= 1
        else:
            assert waiting == 0
            waiting = len(message.get("tool_calls", ()))
    assert waiting == 0


@given(seed=st.integers(0, 1000))
def test_sums_are_calculated_and_the_answer_is_the_last_result(seed: int) -> None:
    box = Toolbox([calculator()])
    for row in arithmetic.conversations(20, digits=3, unaided_share=0.3, seed=seed):
        check_turns(row)
        results = [message["content"] for message in row["messages"] if message["role"] == "tool"]
        assert results == [box.run(call).text for call in calls_of(row)]
        answer = row["messages"][-1]["content"]
        assert all(result in answer for result in (results if row["tags"] == ["parallel"] else results[-1:]))
        assert ("tools" in row) == bool(results) == (row["tags"] != ["unaided"])


def test_held_out_sums_are_in_no_conversation_and_their_answers_are_right() -> None:
    rows = list(arithmetic.conversations(3000, digits=2, unaided_share=0.3, seed=0))
    learnt = {call.arguments["expression"] for row in rows for call in calls_of(row)}
    items = [item for item in arithmetic.items(300, digits=2, seed=0) if item["task"] == "tool_arithmetic"]
    asked = {call["arguments"]["expression"] for item in items for call in item["meta"]["calls"]}
    assert len(asked) > 200
    assert len(learnt) > 1000
    assert not asked & learnt
    assert not any(is_held_out(expression, arithmetic.HELD_OUT_SHARE) for expression in learnt)
    assert all(item["answer"] == calculate(item["meta"]["calls"][0]["arguments"]["expression"]) for item in items)
    kinds = Counter(tag for row in rows for tag in row["tags"])
    assert set(kinds) == {"unaided", "calculator", "steps", "parallel"}
    assert 0.25 < kinds["unaided"] / len(rows) < 0.35
    steps = [calls_of(row)[1].arguments["expression"] for row in rows if row["tags"] == ["steps"]]
    assert 0.27 < len(steps) / (len(rows) - kinds["unaided"]) < 0.33
    assert {expression.split()[-2] for expression in steps} == set("+-*")


@given(seed=st.integers(0, 1000))
def test_functions_are_called_as_they_are_defined_with_what_was_said(seed: int) -> None:
    for row in functions.conversations(20, most_others=3, words=Words([]), seed=seed):
        check_turns(row)
        question = row["messages"][0]["content"].casefold()
        for call in calls_of(row):
            assert all(str(value).casefold() in question for value in call.arguments.values())
        assert len({tool.name for tool in offered(row)}) == len(offered(row)) <= 4
        if row["tags"] == ["no_tool"]:
            assert calls_of(row) == []


def test_values_held_out_are_in_no_call() -> None:
    """What memory and personas are measured on is copied in no call either."""
    rows = functions.conversations(1500, most_others=3, words=Words([]), seed=3)
    values = {str(value) for row in rows for call in calls_of(row) for value in call.arguments.values()}
    days = set(functions.tables()["values"]["day"])
    assert len(values) > 100
    words = {word for value in values - days if not value.isdigit() for word in (value, *value.split())}
    assert not [word for word in words if never_learnt(word)]


def test_things_held_out_are_in_no_conversation() -> None:
    unseen, seen = functions.things(held_out=True), functions.things(held_out=False)
    assert len(unseen) >= 10
    assert len(seen) >= 30
    rows = list(functions.conversations(1500, most_others=3, words=Words([]), seed=1))
    learnt = {tool.name for row in rows for tool in offered(row)}
    items = functions.items(60, most_others=3, seed=1)
    assert Counter(item["task"] for item in items)["tool_choice_unseen"] == 60
    for item in items:
        right = {call["name"] for call in item["meta"]["calls"]}
        names = {tool.name for tool in offered(item)}
        assert right <= names
        if item["task"] == "tool_choice_unseen":
            assert not names & learnt
    assert json.dumps(items) == json.dumps(functions.items(60, most_others=3, seed=1))


def in_common(tool: Definition, tools: Sequence[Definition]) -> int:
    """With how many of the others a tool shares its verb or its thing."""
    verb, thing = tool.name.split("_", 1)
    return sum(verb == other.name.split("_", 1)[0] or thing == other.name.split("_", 1)[1] for other in tools) - 1


def test_the_right_tool_is_told_from_the_others_by_the_request_alone() -> None:
    """Neither unknown words nor what tools have in common tell it: of each kind as many are right as are offered."""
    known = {thing.replace(" ", "_") for thing in functions.things(held_out=False)}
    learnt = [
        row
        for row in functions.conversations(6000, most_others=3, words=Words([]), seed=2)
        if row["tags"] == ["function"]
    ]
    measured = [row for row in functions.items(2000, most_others=3, seed=2) if row["task"].startswith("tool_choice")]
    for rows in (learnt, measured):
        right, expected = Counter[str](), Counter[str]()
        for row in rows:
            tools = offered(row)
            called = calls_of(row)[0].name if "tags" in row else row["meta"]["calls"][0]["name"]
            for tool in tools:
                for kind in (f"known {tool.name.split('_', 1)[1] in known}", f"in common {in_common(tool, tools)}"):
                    right[kind] += tool.name == called
                    expected[kind] += 1 / len(tools)
        for kind, count in expected.items():
            assert abs(right[kind] - count) < 4 * count**0.5, (kind, right[kind], count)


def test_plain_conversations_are_offered_tools_that_they_do_not_need() -> None:
    rows = [
        {"id": str(n), "messages": [{"role": "user", "content": f"Q{n}"}, {"role": "assistant", "content": "A"}]}
        for n in range(200)
    ]
    called = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [1]}]}
    learnt, held = functions.plain_rows([*rows, called], 0.1, 3, Words(["thimble harbourmaster"] * 9), seed=0)
    assert len(learnt) + len(held) == 200
    assert {item["messages"][0]["content"] for item in held} == {
        row["messages"][0]["content"] for row in rows if is_held_out(str(row["messages"][0]["content"]), 0.1)
    }
    assert all(row["tools"] and row["tags"] == ["plain"] for row in learnt)
    assert all(item["task"] == "tool_none" and item["meta"]["tools"] for item in held)
    known = {thing.replace(" ", "_") for thing in functions.things(held_out=False)}
    things = {tool.name.split("_", 1)[1] for row in learnt for tool in offered(row)}
    assert len(things - known) > len(things & known) > 0
    assert {tool.name.split("_", 1)[1] for item in held for tool in offered(item)} <= known


NATALIA = {
    "question": "How many clips?",
    "answer": "She sold 48/2 = <<48/2=24>>24 in May.\nIn all 48+24 = <<48+24=72>>72 clips.\n#### 72",
}


def test_annotated_sums_become_calls() -> None:
    row = annotated_conversation(NATALIA)
    check_turns(row)
    assert [call.arguments["expression"] for call in calls_of(row)] == ["48/2", "48+24"]
    assert [message["content"] for message in row["messages"]] == [
        "How many clips?",
        "She sold 48/2 =",
        "24",
        "24 in May.\nIn all 48+24 =",
        "72",
        "72 clips.\nThe answer is 72.",
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("It is 24.\n#### 24", "no annotated sum"),
        ("<<48/2=25>>25", "another result"),
        ("<<10/3=3.34>>3.34", "another result"),
        ("<<48 of 2=24>>24", "cannot be calculated"),
        ("<<1/0=1>>1", "cannot be calculated"),
        ("<<48/2=many>>many", "cannot be calculated"),
        (None, "no annotated sum"),
    ],
)
def test_a_sum_that_the_calculator_does_not_confirm_is_refused(answer: Any, reason: str) -> None:
    with pytest.raises(RowRefused, match=reason) as caught:
        annotated_conversation({"question": "Q", "answer": answer})
    assert caught.value.mend
    assert annotated_conversation({"question": "Q", "answer": "<<10/3=3.33>>3.33"})


def seal_folder(folder: Path) -> Path:
    folder.mkdir()
    words = {"word": {"type": "str", "description": "Any."}, "times": {"type": "int", "description": ""}}
    tools = [
        {
            "api_name": f"say{n}",
            "api_description": "Say.",
            "field": f"F{n % 2}",
            "parameters": words,
            "required": ["word"],
        }
        for n in range(40)
    ]
    odd = [
        {"api_name": "two words", "parameters": {}, "field": "F0"},
        {"api_name": "odd", "parameters": {"x": {"type": "list"}}, "field": "F0"},
        {"api_name": "bare", "field": "F0"},
    ]
    rows = [
        {"query": f"Q{n}", "calling": [{"api": f"say{n}", "parameters": {"word": "w", "times": "2"}}]}
        for n in range(40)
    ]
    wrong = [
        {"query": "Q", "calling": [{"api": "say0", "parameters": {"word": "API_call_0"}}]},
        {"query": "Q", "calling": [{"api": "say0", "parameters": {"times": 1}}]},
        {"query": "Q", "calling": [{"api": "nobody", "parameters": {}}]},
        {"query": "Q", "calling": [{"api": "say0"}]},
        {"query": "Q", "calling": []},
    ]
    for name, content in (("tool", [*tools, *odd]), ("dev", [*rows, *wrong])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return folder


def test_seal_tools_are_converted_split_by_tool_and_refused_with_reasons(tmp_path: Path) -> None:
    folder = seal_folder(tmp_path / "seal")
    log = ProblemLog(io.BytesIO(), "skip")
    tools = SealTools(folder, log)
    assert len(tools.definitions) == 40
    learnt, held = tools.read([SourceFile(folder / "dev.jsonl", "dev.jsonl")], 3, 0.25, 0, log)
    assert len(learnt) + len(held) == 40
    assert log.counts.total() == 8
    assert held
    for row in learnt:
        assert settle(calls_of(row)[0], offered(row)) == calls_of(row)[0]
        assert calls_of(row)[0].arguments == {"word": "w", "times": 2}
        assert len(offered(row)) == 4
    unseen = {call["name"] for item in held for call in item["meta"]["calls"]}
    assert unseen.isdisjoint(call.name for row in learnt for call in calls_of(row))
    with pytest.raises(DataError, match=r"no tool\.jsonl"):
        SealTools(tmp_path, log)
