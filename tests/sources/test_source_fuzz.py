"""Whatever the bytes or the JSON: rows come out or problems with file and line, and nothing but our own errors."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tutelage.errors import TutelageError
from tutelage.sources.conversations import FORMATS, conversations
from tutelage.sources.documents import FILE_FORMATS, DocumentOptions, documents
from tutelage.sources.files import SourceFile
from tutelage.sources.preferences import FORMATS as PREFERENCE_FORMATS
from tutelage.sources.preferences import preferences
from tutelage.sources.records import READERS
from tutelage.sources.rows import ProblemLog
from tutelage.sources.store import write_documents, write_jsonl

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KEYS = [key for item in (*FORMATS, *PREFERENCE_FORMATS) for key in item.keys]
KEYS += [
    "role",
    "from",
    "content",
    "value",
    "text",
    "tools",
    "tags",
    "label",
    "completion",
    "preferred",
    "input",
    "title",
]
TEXTS = st.sampled_from(["", "user", "assistant", "human", "gpt", "system", "tool", "a", "b", "\ud800", "\n\nHuman: x"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.text(max_size=5)


def objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(KEYS), values, max_size=6)


VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | objects(inner), max_leaves=12)


def read_all(path: Path, folder: Path) -> None:
    """Read the file as everything it could be, and store what comes out."""
    file = SourceFile(path, path.name)
    for kind in ("documents", "conversations", "preferences"):
        problems = io.BytesIO()
        log = ProblemLog(problems, "skip")
        if kind == "documents":
            rows = documents([file], DocumentOptions(split="paragraphs", max_characters=5), log)
            count = write_documents(folder, rows)
        elif file.suffix not in READERS:
            continue
        elif kind == "conversations":
            count = write_jsonl(folder / "out.jsonl", conversations([file], ("tag",), log))
        else:
            count = write_jsonl(folder / "out.jsonl", preferences([file], 0.5, log))
        for line in problems.getvalue().splitlines():
            problem = json.loads(line)
            assert problem["file"] == str(path)
            assert problem["line"] >= 1
            assert problem["reason"]
            assert problem["mend"]
        assert len(log.notes(count)) <= 6
        if not count:
            with pytest.raises(TutelageError):
                log.require(count, str(path))


SUFFIXES = [*READERS, ".txt", ".html", ".jsonl.gz", ".csv.zst", ".parquet.gz", ".txt.gz"]


@QUICK
@given(suffix=st.sampled_from(SUFFIXES), data=st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode()))
def test_arbitrary_bytes(tmp_path: Path, suffix: str, data: bytes) -> None:
    assert FILE_FORMATS
    path = tmp_path / f"fuzz{suffix}"
    path.write_bytes(data)
    read_all(path, tmp_path / "out")


@QUICK
@given(
    data=st.text(alphabet="[]{}:,-&*!|>%@\"'\\#?\n ab1\t", max_size=80),
    suffix=st.sampled_from([".yaml", ".json", ".csv"]),
)
def test_arbitrary_punctuation(tmp_path: Path, suffix: str, data: str) -> None:
    path = tmp_path / f"fuzz{suffix}"
    path.write_text(data)
    read_all(path, tmp_path / "out")


@QUICK
@given(rows=st.lists(objects(VALUES) | VALUES, max_size=4), suffix=st.sampled_from([".jsonl", ".json"]))
def test_arbitrary_rows(tmp_path: Path, rows: list[Any], suffix: str) -> None:
    path = tmp_path / f"fuzz{suffix}"
    path.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)))
    read_all(path, tmp_path / "out")


@QUICK
@given(data=st.data())
def test_rows_that_have_every_key_of_a_format(tmp_path: Path, data: st.DataObject) -> None:
    keys = data.draw(st.sampled_from([item.keys for item in (*FORMATS, *PREFERENCE_FORMATS)]))
    row = {key: data.draw(VALUES) for key in keys}
    (tmp_path / "fuzz.jsonl").write_text(json.dumps(row))
    read_all(tmp_path / "fuzz.jsonl", tmp_path / "out")


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".yaml"])
@pytest.mark.parametrize(
    "opening", ["[", '{"a":', '{"messages": [', '{"prompt": {"role": "user", "text": "x", "replies": [']
)
def test_deep_nesting(tmp_path: Path, suffix: str, opening: str) -> None:
    path = tmp_path / f"deep{suffix}"
    path.write_text(opening * 1500)  # beyond the recursion limit
    read_all(path, tmp_path / "out")


@pytest.mark.parametrize("value", ["1" * 5000, "1e999", "-Infinity", '"\\ud800"'])
def test_odd_values(tmp_path: Path, value: str) -> None:
    for row in ('{"text": %s, "title": %s}', '{"prompt": "Q", "responses": ["A", "B"], "ranks": [1, %s], "title": %s}'):
        (tmp_path / "odd.jsonl").write_text(row % (value, value))
        read_all(tmp_path / "odd.jsonl", tmp_path / "out")
