"""Rows of replies that a model drew: as `sft` reads them, as `distill` does, and damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tiny import tokenizer
from tutelage.data.completions import completion_of
from tutelage.data.template import render
from tutelage.errors import ArtifactError
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.talk.masks import TRAINED
from tutelage.web.training_rows import Row, Source, count_rows, read_row

PROMPT = [{"role": "user", "content": "What is the capital of Peru?"}]
WHOLE: dict[str, Any] = {"id": "a/0", "prompt": PROMPT, "completion": "It is Lima.", "finish_reason": "stop"}
CUT = WHOLE | {"id": "b/0", "finish_reason": "length"}
EMPTY = WHOLE | {"id": "c/0", "completion": " "}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tokenizer().save(tmp_path)
    return tmp_path


def read(place: Path, name: str, row: dict[str, Any], context: int = 0) -> Row:
    (place / "completions.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    artifact = Artifact("said", ArtifactType.COMPLETIONS, place, "f")
    source = Source(name, artifact, place, context, 0)
    assert count_rows(source) == 1
    return read_row(source, 0)


def masks(row: Row) -> tuple[list[int], list[bool]]:
    (strip,) = row.strips
    return [token.id for token in strip.tokens], [token.kind == TRAINED for token in strip.tokens]


@pytest.mark.parametrize(("row", "said"), [(WHOLE, ""), (CUT, "did not end"), (EMPTY, "did not end")])
def test_conversations_are_read_as_sft_reads_them(place: Path, row: dict[str, Any], said: str) -> None:
    found = read(place, "conversations.said", row)
    rendered = render(tokenizer(), [*PROMPT, {"role": "assistant", "content": row["completion"]}])
    assert masks(found) == (rendered.ids, rendered.loss_mask)
    assert (said in found.left_out) if said else found.left_out == ""


@pytest.mark.parametrize("row", [WHOLE, CUT])
def test_replies_are_read_as_distill_reads_them(place: Path, row: dict[str, Any]) -> None:
    found = read(place, "completions", row)
    own = completion_of(tokenizer(), PROMPT, row["completion"], row["finish_reason"] == "stop")
    assert masks(found) == (own.ids, own.loss_mask)
    assert (own.ids[-1] in tokenizer().stop_ids) == (row is WHOLE)
    assert found.left_out == ""


def test_what_is_longer_than_the_context_is_left_out(place: Path) -> None:
    assert "more than the context of 4" in read(place, "completions", WHOLE, context=4).left_out


@pytest.mark.parametrize("field", ["prompt", "completion", "finish_reason"])
@pytest.mark.parametrize("name", ["completions", "conversations"])
def test_a_row_without_a_field_is_named(place: Path, name: str, field: str) -> None:
    with pytest.raises(ArtifactError, match=f"row 1 is not one of Completions.*{field}"):
        read(place, name, {key: value for key, value in WHOLE.items() if key != field})


@pytest.mark.parametrize("broken", [{"prompt": None}, {"prompt": "hi"}, {"turns": 3}, {"prompt": [3]}])
def test_a_row_of_another_shape_is_named(place: Path, broken: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="row 1 is not one of Completions"):
        read(place, "completions", WHOLE | broken)


def test_a_row_needs_no_id(place: Path) -> None:
    (strip,) = read(place, "completions", {key: value for key, value in WHOLE.items() if key != "id"}).strips
    assert strip.title == "reply 0"
