"""Fine-tuning on replies that a model drew: those that ended are learnt, as conversations would be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiny import jsonl_artifact
from tutelage.errors import DataError
from tutelage.run.artifacts import ArtifactType
from tutelage.stages.replying.inputs import conversations_of


def drawn(number: int, reason: str, **more: Any) -> dict[str, Any]:
    prompt = [{"role": "user", "content": f"{number}?"}]
    return {"id": f"p{number}/0", "prompt": prompt, "completion": f"{number}!", "finish_reason": reason, **more}


def test_replies_that_ended_are_conversations_beside_others(tmp_path: Path) -> None:
    talk = {"id": "c", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    replies = [drawn(1, "stop"), drawn(2, "length"), drawn(3, "stop"), drawn(4, "stop") | {"completion": " "}]
    inputs = {
        "conversations.0": jsonl_artifact(ArtifactType.CONVERSATIONS, tmp_path / "c" / "conversations.jsonl", [talk]),
        "conversations.1": jsonl_artifact(ArtifactType.COMPLETIONS, tmp_path / "drawn" / "completions.jsonl", replies),
    }
    notes: list[str] = []
    rows = list(conversations_of(inputs, {"drawn": 3}, notes))
    said = [[(message["role"], message["content"]) for message in row["messages"]] for row in rows]
    assert said == [[("user", text), ("assistant", reply)] for text, reply in (("a", "b"), ("1?", "1!"), ("3?", "3!"))]
    assert [row["passes"] for row in rows] == [1, 3, 3]
    assert notes == ["drawn: 2 replies are empty or did not end, and are left out"]


def test_replies_drawn_with_tools_are_refused(tmp_path: Path) -> None:
    replies = [drawn(1, "stop", turns=[{"role": "assistant", "content": "1!"}])]
    path = tmp_path / "completions.jsonl"
    with pytest.raises(DataError, match="reply p1/0 was drawn with tools"):
        list(conversations_of({"conversations": jsonl_artifact(ArtifactType.COMPLETIONS, path, replies)}))


def test_of_which_none_ended_the_reasons_are_told(tmp_path: Path) -> None:
    path = tmp_path / "completions.jsonl"
    replies = jsonl_artifact(ArtifactType.COMPLETIONS, path, [drawn(1, "length"), drawn(2, "eos"), drawn(3, "eos")])
    with pytest.raises(DataError, match=r"of 3 replies none ended .*\(finish_reason: eos 2, length 1\)"):
        list(conversations_of({"conversations": replies}))
