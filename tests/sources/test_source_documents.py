from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import DataError
from tutelage.sources.documents import DocumentOptions, documents
from tutelage.sources.files import expand
from tutelage.sources.paragraphs import split_paragraphs
from tutelage.sources.rows import ProblemLog

PLAIN = DocumentOptions()


def read(path: Path, options: DocumentOptions = PLAIN) -> tuple[list[dict[str, object]], ProblemLog]:
    log = ProblemLog(io.BytesIO(), "skip")
    return list(documents(expand(str(path)), options, log)), log


def one(path: Path) -> dict[str, object]:
    found, log = read(path)
    assert not log.counts, log.first
    (document,) = found
    return document


@pytest.mark.parametrize(
    ("name", "kind"), [("a.txt", "text"), ("a.md", "markdown"), ("a.html", "html"), ("a.HTM", "html"), ("a.py", "code")]
)
def test_a_file_is_a_document_of_its_format(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf<p>one</p>\r\n\r\ntwo")
    document = one(tmp_path / name)
    assert (document["format"], document["source"], document["text"]) == (kind, name, "<p>one</p>\n\ntwo")


ROW = {"text": "words", "url": "u", "title": "t", "date": "2020-01-01", "license": "CC0", "lang": "en"}


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.yaml"])
def test_rows_keep_text_and_metadata(tmp_path: Path, name: str) -> None:
    path, kind = tmp_path / name, name.split(".")[1]
    separator = "\t" if kind == "tsv" else ","
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([ROW, {**ROW, "url": None}]), path)
    elif kind in ("csv", "tsv"):
        path.write_text("\n".join(separator.join(row) for row in (ROW, ROW.values(), ROW.values())))
    elif kind == "yaml":
        path.write_text("".join(f"- {json.dumps(ROW)}\n" for _ in range(2)))
    else:
        rows = [ROW, ROW]
        path.write_text(json.dumps(rows) if kind == "json" else "\n".join(json.dumps(row) for row in rows))
    found, log = read(path)
    assert not log.counts
    assert len(found) == 2
    assert found[0]["id"] != found[1]["id"]
    expected = {"text": "words", "url": "u", "title": "t", "date": "2020-01-01", "licence": "CC0", "language": "en"}
    assert {key: found[0][key] for key in expected} == expected


def test_options_fill_what_rows_do_not_state(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"content": "one", "language": "fr"}\n\n{"body": "two"}\n')
    found, _ = read(tmp_path / "a.jsonl", DocumentOptions(licence="CC0", language="en"))
    assert [(row["text"], row["language"], row["licence"]) for row in found] == [
        ("one", "fr", "CC0"),
        ("two", "en", "CC0"),
    ]


def test_sections_are_joined(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"title": "T", "sections": ["one", "two"]}')
    assert one(tmp_path / "a.jsonl")["text"] == "one\n\ntwo"


def test_every_bad_row_is_named_with_its_line_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [
        b'{"text": "good"}',
        b"{broken",
        b'{"text": 5}',
        b'{"text": " "}',
        b"[1]",
        b'{"text": "\xe9"}',
        b'{"no": 1}',
    ]
    lines += [b'{"text": "\\ud800"}', b'{"text": "x", "n": NaN}', b'{"text": "also good"}']
    path.write_bytes(b"\n".join(lines))
    log = ProblemLog(problems := io.BytesIO(), "skip")
    assert [row["text"] for row in documents(expand(str(path)), PLAIN, log)] == ["good", "also good"]
    rows = [json.loads(line) for line in problems.getvalue().splitlines()]
    assert [row["line"] for row in rows] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert all(row["file"] == str(path) and row["reason"] and row["mend"] for row in rows)
    assert "line 2, column 2" in rows[0]["mend"]
    offset = path.read_bytes().index(b"\xe9")
    assert f"0xe9 at offset {offset}" in rows[4]["mend"]
    notes = log.notes(2)
    assert notes[0].startswith("8 of 10 rows were refused: ")
    assert len(notes) == 6
    assert notes[1].startswith(f"{path}:2: ")


def test_a_text_file_with_a_bad_byte_names_line_and_offset(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\ncaf\xe9\n")
    found, log = read(tmp_path / "a.txt")
    assert not found
    assert log.first[0].line == 3
    assert "offset 11" in log.first[0].mend


def test_a_json_array_numbers_rows_by_line_and_syntax_errors_by_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n{"text": "a"},\n\n{"text": ""}, {"text": "[,\\n]"}\n, 7]')
    found, log = read(path)
    assert [row["text"] for row in found] == ["a", "[,\n]"]
    assert [item.line for item in log.first] == [4, 5]
    path.write_text('[\n{"text": "a"},\n{"text" "b"}]')
    assert "line 3, column 9" in read(path)[1].first[0].mend


def test_csv_errors_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,title\n"two\nlines",x\na,b,c\n"never closed')
    found, log = read(path)
    assert [row["text"] for row in found] == ["two\nlines"]
    assert [(item.line, item.reason) for item in log.first] == [
        (4, "more fields than the header names"),
        (5, "CSV syntax error"),
    ]


def test_a_long_csv_field_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "word " * 100_000)
    assert len(str(one(tmp_path / "a.csv")["text"])) == 500_000


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.zst", "a.parquet", "a.yaml", "a.csv.gz"])
def test_a_damaged_file_is_a_problem_and_not_a_crash(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b\x08\0: [nothing of the kind")
    found, log = read(tmp_path / name)
    assert not found
    assert log.counts.total() == 1
    assert log.first[0].file.endswith(name)


def test_the_policy_stop_raises_at_the_first_problem(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\n{"text": 1}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: `text` is not text"):
        list(documents(expand(str(tmp_path / "a.jsonl")), PLAIN, ProblemLog(io.BytesIO(), "stop")))


def squeeze(text: str) -> str:
    return "".join(text.split())


@given(st.text(alphabet="ab. \n", max_size=300), st.integers(1, 40))
def test_splitting_loses_no_word_and_keeps_the_limit(text: str, limit: int) -> None:
    parts = list(split_paragraphs(text, limit))
    assert all(0 < len(part) <= limit and part == part.strip() for part in parts)
    assert squeeze("".join(parts)) == squeeze(text)


@given(st.lists(st.integers(1, 30), max_size=30), st.sampled_from(["\n", "\n\n"]))
def test_paragraphs_that_fit_are_never_cut(lengths: list[int], joint: str) -> None:
    paragraphs = [f"{number:03d}" + "x" * length for number, length in enumerate(lengths)]
    parts = list(split_paragraphs(joint.join(paragraphs), 40))
    assert [paragraph for part in parts for paragraph in part.split(joint)] == paragraphs
    assert all(len(one) + len(joint) + len(two.split(joint)[0]) > 40 for one, two in pairwise(parts))


def test_real_books_become_many_documents(shared_data: Path) -> None:
    book = shared_data / "standard_ebooks_children" / "jacob-grimm_wilhelm-grimm_household-tales_margaret-hunt.txt"
    found, log = read(book, DocumentOptions(split="paragraphs", max_characters=8000))
    assert not log.counts
    assert 180 < len(found) < 250
    assert max(len(str(row["text"])) for row in found) <= 8000
    lines = {line.strip() for line in book.read_text().split("\n")}
    assert all(line in lines for row in found for line in str(row["text"]).split("\n"))


def test_real_stories(shared_data: Path) -> None:
    found, log = read(shared_data / "fairytaleqa" / "stories_val.jsonl")
    assert not log.counts
    assert len(found) == 23
    assert all(row["title"] for row in found)
