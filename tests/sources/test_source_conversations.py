from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tutelage.errors import DataError
from tutelage.sources.conversations import conversations, conversations_of
from tutelage.sources.files import expand
from tutelage.sources.messages import dialogue_of
from tutelage.sources.rows import ProblemLog, RowRefused

ASKED = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
LONGER = [
    {"role": "system", "content": "S"},
    *ASKED,
    {"role": "user", "content": "Q2"},
    {"role": "assistant", "content": "A2"},
]


def read(path: Path) -> tuple[list[dict[str, Any]], ProblemLog]:
    log = ProblemLog(io.BytesIO(), "skip")
    files = [file for file in expand(str(path)) if file.suffix]
    return list(conversations(files, (), log)), log


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": LONGER}, LONGER),
        ({"messages": [{"role": "Human", "content": [{"type": "text", "text": "Q"}]}, ASKED[1]]}, ASKED),
        ({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, ASKED),
        (
            {"system": "S", "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
            LONGER[:3],
        ),
        ({"instruction": "Q", "input": "", "output": "A"}, ASKED),
        ({"instruction": "Q", "response": "A"}, ASKED),
        ({"instruction": "Q", "context": "", "response": "A", "category": "open_qa"}, ASKED),
        ({"prompt": "Q", "completion": "A"}, ASKED),
        ({"prompt": ASKED[:1], "completion": ASKED[1:]}, ASKED),
        ({"question": "Q", "answer": "A"}, ASKED),
        ({"question": "Q", "answers": ["A", "B"]}, ASKED),
        ({"question": "Q", "answers": {"text": ["A"], "answer_start": [0]}}, ASKED),
        ({"instruction": "Q", "instances": [{"input": "", "output": "A"}]}, ASKED),
        ({"turns": ["Q", "A"]}, ASKED),
    ],
)
def test_formats_are_detected(row: Mapping[str, Any], expected: list[dict[str, str]]) -> None:
    assert conversations_of(row) == [expected]


def test_inputs_and_contexts_stand_in_the_prompt() -> None:
    (alpaca,) = conversations_of({"instruction": "Sort", "input": "b a", "output": "a b"})
    assert alpaca[0]["content"] == "Sort\n\nb a"
    (grounded,) = conversations_of({"question": "Who?", "context": "Ann ran.", "title": "Ann", "answer": "Ann"})
    assert grounded[0]["content"] == "Ann\n\nAnn ran.\n\nWho?"


def test_tool_calls_are_kept() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "f"}}]}
    row = {"messages": [ASKED[0], call, {"role": "tool", "content": "4", "name": "f"}, ASKED[1]]}
    (messages,) = conversations_of(row)
    assert messages[1]["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": {}}}]
    assert messages[2] == {"role": "tool", "content": "4", "name": "f"}


def test_calls_come_into_one_form_from_the_wire_and_from_sharegpt() -> None:
    made = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    wire = {"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}, "id": "c1"}
    (messages,) = conversations_of({"messages": [ASKED[0], {"role": "assistant", "tool_calls": [wire]}]})
    assert messages[1]["tool_calls"] == [{"id": "c1", **made}]
    told = [
        ("human", "Q"),
        ("function_call", '{"name": "f", "arguments": {"a": 1}}'),
        ("observation", "4"),
        ("gpt", "A"),
    ]
    (messages,) = conversations_of({"conversations": [{"from": role, "value": text} for role, text in told]})
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[1] == {"role": "assistant", "content": "", "tool_calls": [made]}


def test_a_tree_follows_the_best_reply_and_ends_with_the_assistant() -> None:
    follow_up = {"role": "prompter", "text": "Q2", "replies": []}
    best = {"role": "assistant", "text": "best", "rank": 0, "replies": [follow_up]}
    deleted = {"role": "assistant", "text": "deleted", "rank": -1, "deleted": True, "replies": []}
    other = {"role": "assistant", "text": "other", "rank": 1, "replies": []}
    tree = {"prompt": {"role": "prompter", "text": "Q", "replies": [other, deleted, best]}}
    (messages,) = conversations_of(tree)
    assert [message["content"] for message in messages] == ["Q", "best"]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([*ASKED, {"role": "user", "content": "again"}], "last user turn has no reply"),
        ([ASKED[0]], "no assistant turn"),
        ([ASKED[1]], "turns out of order: assistant first"),
        ([ASKED[0], *ASKED], "turns out of order: user after user"),
        ([*ASKED, ASKED[1]], "turns out of order: assistant after assistant"),
        ([ASKED[0], {"role": "system", "content": "S"}, ASKED[1]], "turns out of order: system after user"),
        ([ASKED[0], {"role": "assistant", "content": " \n"}], "an empty assistant turn"),
        ([{"role": "user", "content": ""}, ASKED[1]], "an empty user turn"),
        ([{"role": "wizard", "content": "Q"}, ASKED[1]], "unknown role"),
        ([{"content": "Q"}, ASKED[1]], "unknown role"),
        ([{"role": "user", "content": 5}, ASKED[1]], "not text"),
        ([{"role": "user", "content": [{"type": "image", "url": "x"}]}, ASKED[1]], "not text"),
        (["Q", "A"], "not an object"),
        ([], "empty one"),
        ("Q", "not a list"),
        ([ASKED[0], {**ASKED[1], "content": "half \udc00"}], "surrogate"),
        ([ASKED[0], {**ASKED[1], "tool_calls": [{"at": b"bytes"}]}], "JSON cannot hold"),
        ([ASKED[0], {**ASKED[1], "tool_calls": [{"arguments": {}}]}], "a tool call that is none"),
        ([ASKED[0], {**ASKED[1], "tool_calls": {"name": "f"}}], "not a list"),
        ([{**ASKED[0], "tool_calls": [{"name": "f"}]}, ASKED[1]], "not the assistant's"),
    ],
)
def test_conversations_that_cannot_be_learnt_from(messages: Any, reason: str) -> None:
    with pytest.raises(RowRefused, match=reason) as caught:
        conversations_of({"messages": messages})
    assert caught.value.mend


def test_a_reply_labelled_bad_is_not_imitated() -> None:
    with pytest.raises(RowRefused, match="labelled as bad"):
        conversations_of({"prompt": "Q", "completion": "A", "label": False})


def test_rows_that_fit_no_format_explain_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "Q", "answer": "A", "extra": 1}\n' * 3)
    found, log = read(path)
    with pytest.raises(DataError) as caught:
        log.require(len(found), str(path))
    text = str(caught.value)
    assert "Keys of the first: instruction, answer, extra" in text
    assert "Alpaca" in caught.value.hint
    assert "rename `answer` to `output`" in caught.value.hint
    assert all(name in text for name in ("ShareGPT", "messages", "OpenAssistant", "prompt and completion"))


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        ({"Messages": []}, "rename `Messages` to `messages`"),
        ({"dialog": []}, "rename `dialog` to `messages`"),
        ({"prompt": "Q", "answer": "A"}, "rename `answer` to `completion`"),
        ({"prompt": "Q"}, "add `completion`"),
        ({"question": "Q", "answr": "A"}, "rename `answr` to `answer`"),
        ({"zebra": 1}, "convert it to one of the accepted formats"),
        ({}, "convert it to one of the accepted formats"),
    ],
)
def test_the_nearest_format_is_named(row: Mapping[str, Any], advice: str) -> None:
    with pytest.raises(RowRefused) as caught:
        conversations_of(row)
    assert advice in caught.value.mend


def test_one_good_row_is_enough_and_an_empty_set_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"bad": 1}\n{"question": "Q", "answer": "A"}\n')
    found, log = read(path)
    log.require(len(found), str(path))
    path.write_text("\n \n")
    found, log = read(path)
    with pytest.raises(DataError, match="no rows"):
        log.require(len(found), str(path))


def test_equal_rows_have_distinct_ids_that_stay(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "Q", "answer": "A"}\n' * 2)
    first, second = read(tmp_path / "a.jsonl")[0]
    assert first["messages"] == second["messages"]
    assert first["id"] != second["id"]
    assert [row["id"] for row in read(tmp_path / "a.jsonl")[0]] == [first["id"], second["id"]]


def test_tags_and_tools_come_along(tmp_path: Path) -> None:
    row = {"messages": ASKED, "tags": ["x"], "tools": json.dumps([{"name": "f"}])}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    log = ProblemLog(io.BytesIO(), "skip")
    (found,) = conversations(expand(str(tmp_path / "a.jsonl")), ("given", "x"), log)
    assert found["tags"] == ["given", "x"]
    assert found["tools"] == [{"name": "f"}]


def test_chatterbot_yaml_lines(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("categories:\n- AI\nconversations:\n- - What is 42?\n  - 42\n- - alone\n- bare\n")
    found, log = read(tmp_path / "a.yml")
    assert [message["content"] for message in found[0]["messages"]] == ["What is 42?", "42"]
    assert found[0]["tags"] == ["AI"]
    assert [item.line for item in log.first] == [6, 7]


def test_a_yaml_that_doubles_itself_is_refused_quickly(tmp_path: Path) -> None:
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 40))
    (tmp_path / "bomb.yaml").write_text(f"a0: &a0 [x]\n{levels}\n")
    found, log = read(tmp_path / "bomb.yaml")
    assert not found
    assert log.first[0].reason == "YAML that cannot be read"


def test_transcripts() -> None:
    text = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nTwo paragraphs.\n\nHuman: \n\nAssistant:"
    messages = dialogue_of(text)
    assert messages is not None
    assert [(message["role"], message["content"]) for message in messages] == [
        ("user", "Hi"),
        ("assistant", "Hello.\n\nTwo paragraphs."),
        ("user", ""),
        ("assistant", ""),
    ]
    assert dialogue_of("no transcript, though it says Human: here") is None


@pytest.mark.parametrize(
    ("name", "count", "refused"),
    [
        ("dolly_open_qa/dolly_open_qa.jsonl", 3742, 0),
        ("fairytaleqa/qa_val.jsonl", 1025, 0),
        ("oasst_en_100", 100, 0),
        ("self_instruct/seed_tasks.jsonl", 175, 0),
        ("chatterbot_english/food.yml", 17, 0),
        ("chatterbot_english/trivia.yml", 260, 1),
        ("gsm8k/train.jsonl", 7473, 0),
    ],
)
def test_real_files(shared_data: Path, name: str, count: int, refused: int) -> None:
    found, log = read(shared_data / name)
    assert (len(found), log.counts.total()) == (count, refused)
    assert len({row["id"] for row in found}) == count
    assert all(row["messages"][-1]["role"] == "assistant" for row in found)
