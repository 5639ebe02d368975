"""Conversations: the row formats of the field, told apart by their fields, without configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.sources.files import SourceFile
from tutelage.sources.messages import Message, assistant, check_order, messages_of, plain_json, user
from tutelage.sources.records import parse_json, records
from tutelage.sources.rows import Format, NoFormat, ProblemLog, RowRefused

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ConversationFormat(Format):
    """A row format and its conversion into one or more lists of messages (their order is checked afterwards)."""

    convert: Callable[[Row], list[list[Message]]]


def _messages(row: Row) -> list[list[Message]]:
    return [messages_of(row["messages"])]


def _sharegpt(row: Row) -> list[list[Message]]:
    messages = messages_of(row["conversations"])
    system = row.get("system")
    if isinstance(system, str) and system.strip() and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return [messages]


def _alpaca(row: Row) -> list[list[Message]]:
    return [[user(row["instruction"], row.get("input")), assistant(row["output"])]]


def _instruction_response(row: Row) -> list[list[Message]]:
    return [[user(row.get("context"), row["instruction"], row.get("input")), assistant(row["response"])]]


def _self_instruct(row: Row) -> list[list[Message]]:
    instances = row["instances"]
    if not isinstance(instances, list) or not instances or not all(isinstance(item, Mapping) for item in instances):
        raise RowRefused("`instances` is not a list of objects", 'write [{"input": "…", "output": "…"}]')
    return [[user(row["instruction"], item.get("input")), assistant(item.get("output", ""))] for item in instances]


def _prompt_completion(row: Row) -> list[list[Message]]:
    if row.get("label") in (False, 0):
        raise RowRefused("a completion labelled as bad", "rows with `label` false are for preferences, not to imitate")
    prompt, completion = row["prompt"], row["completion"]
    before = messages_of(prompt) if isinstance(prompt, list) else [user(prompt)]
    after = messages_of(completion) if isinstance(completion, list) else [assistant(completion)]
    return [before + after]


def _question_answer(row: Row) -> list[list[Message]]:
    """The first of several answers; a title or context, which the question may refer to, stands before it."""
    answers = row["answers"] if "answers" in row else row["answer"]
    if isinstance(answers, Mapping):  # SQuAD: {"text": ["…"], "answer_start": [0]}
        answers = answers.get("text")
    if isinstance(answers, list):
        answers = answers[0] if answers else ""
    return [[user(row.get("title"), row.get("context"), row["question"]), assistant(answers)]]


def _turns(row: Row) -> list[list[Message]]:
    """Chatterbot's lists of strings: the user begins, then turns alternate."""
    turns = row["turns"]
    if not isinstance(turns, list):
        raise RowRefused("`turns` is not a list", 'write ["question", "answer", …]')
    return [[assistant(turn) if index % 2 else user(turn) for index, turn in enumerate(turns)]]


def _tree(row: Row) -> list[list[Message]]:
    """An OpenAssistant tree: from the prompt on, always the best-ranked reply, up to the last assistant turn."""
    node, messages = row["prompt"], list[Message]()
    while node is not None:
        messages += messages_of([node])
        replies = node.get("replies")
        candidates = [reply for reply in replies if _usable(reply)] if isinstance(replies, list) else []
        node = min(candidates, key=_rank, default=None)
    while len(messages) > 1 and messages[-1]["role"] != "assistant":
        messages.pop()
    return [messages]


def _usable(reply: Any) -> bool:
    return isinstance(reply, Mapping) and not reply.get("deleted") and reply.get("review_result") is not False


def _rank(reply: Row) -> float:
    rank = reply.get("rank")
    return float(rank) if isinstance(rank, (int, float)) and abs(rank) < 1e9 else float("inf")


OPEN_ASSISTANT = ConversationFormat(
    "OpenAssistant tree",
    ("prompt", "message_tree_id"),
    '{"message_tree_id": "…", "prompt": {"text": "…", "role": "prompter", "replies": […]}}',
    _tree,
)
FORMATS = (
    ConversationFormat(
        "messages", ("messages",), '{"messages": [{"role": "user", "content": "…"}, …], "tools": […]}', _messages
    ),
    ConversationFormat(
        "ShareGPT", ("conversations",), '{"conversations": [{"from": "human", "value": "…"}, …]}', _sharegpt
    ),
    ConversationFormat(
        "Alpaca", ("instruction", "output"), '{"instruction": "…", "input": "…", "output": "…"}', _alpaca
    ),
    ConversationFormat(
        "instruction and response",
        ("instruction", "response"),
        '{"instruction": "…", "response": "…"}',
        _instruction_response,
    ),
    ConversationFormat(
        "self-instruct",
        ("instruction", "instances"),
        '{"instruction": "…", "instances": [{"input": "…", "output": "…"}]}',
        _self_instruct,
    ),
    ConversationFormat(
        "prompt and completion", ("prompt", "completion"), '{"prompt": "…", "completion": "…"}', _prompt_completion
    ),
    ConversationFormat(
        "question and answer",
        ("question", "answer"),
        '{"question": "…", "answer": "…", "context": "…"}',
        _question_answer,
    ),
    ConversationFormat(
        "question and answers",
        ("question", "answers"),
        '{"question": "…", "answers": ["…"], "title": "…"}',
        _question_answer,
    ),
    ConversationFormat("turns (chatterbot YAML)", ("turns",), '{"turns": ["…", "…"]}', _turns),
    OPEN_ASSISTANT,
)


def conversations_of(row: Row) -> list[list[Message]]:
    """Every conversation in a row, roles normalised and order checked; a RowRefused says why there is none."""
    found = next((item for item in FORMATS if all(row.get(key) is not None for key in item.keys)), None)
    if isinstance(row.get("prompt"), Mapping):  # also a tree without its id, and never a completion's prompt
        found = OPEN_ASSISTANT
    if found is None:
        raise NoFormat(row, FORMATS)
    return [check_order(messages) for messages in found.convert(row)]


def conversations(files: Iterable[SourceFile], tags: Sequence[str], log: ProblemLog) -> Iterator[dict[str, Any]]:
    """Rows of conversations.jsonl; refused rows go to the log."""
    for file in files:
        position = 0
        for record in records(file, log):
            try:
                found = conversations_of(record.row)
                tools = tools_of(record.row)
            except RowRefused as refused:
                log.refuse(str(file.path), record.line, refused)
                continue
            for messages in found:
                own = {"source": file.name, "tags": list(dict.fromkeys([*tags, *_tags(record.row)]))}
                yield {"id": row_id(file.name, position, messages), "messages": messages, **tools, **own}
                position += 1


def tools_of(row: Row) -> dict[str, Any]:
    """`{"tools": […]}` when the row offers tools (a list, or a list written as a JSON string), else nothing."""
    tools = row.get("tools")
    if tools in (None, "", []):
        return {}
    if isinstance(tools, str):
        tools = parse_json(tools)
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise RowRefused("`tools` is not a list of objects", "write the tools' JSON schemas as a list")
    return plain_json({"tools": tools}) if tools else {}


def _tags(row: Row) -> list[str]:
    stated = row.get("tags", row.get("categories"))
    return [tag for tag in stated if isinstance(tag, str)] if isinstance(stated, list) else []


def row_id(source: str, position: int, content: Any) -> str:
    """Sixteen hexadecimal digits from where a row stands and what it holds."""
    text = json.dumps([source, position, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
