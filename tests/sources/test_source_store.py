from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tutelage.errors import ArtifactError, ResourceError
from tutelage.sources.store import atomic, documents_schema, read_documents, read_jsonl, write_documents, write_jsonl


def document(number: int, text: str = "text") -> dict[str, object]:
    return {"id": f"{number:016x}", "text": text, "source": "here", "labels": ["spam"] if number % 2 else []}


@contextmanager
def small_disk() -> Iterator[None]:
    """No file may grow beyond 10 kB, as on a full disk. For a block, not a test: pytest itself may write to a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_documents_come_back_as_written(tmp_path: Path) -> None:
    rows = [document(number, f"snowman ☃ \0 {number}") for number in range(5000)]
    assert write_documents(tmp_path, iter(rows)) == 5000
    table = read_documents(tmp_path)
    assert table.schema == documents_schema
    assert [{key: row[key] for key in rows[0]} for row in table.to_pylist()] == rows
    assert table["title"].null_count == 5000


def test_no_documents_are_a_table_too(tmp_path: Path) -> None:
    assert write_documents(tmp_path, []) == 0
    assert read_documents(tmp_path).num_rows == 0


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_documents(tmp_path / name, map(document, range(100)))
        write_jsonl(tmp_path / name / "rows.jsonl", map(document, range(100)))
    for file in ("documents.parquet", "rows.jsonl"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("content", [b"", b"PAR1 but not really PAR1", b"\0" * 100])
def test_damaged_documents_are_an_artifact_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "documents.parquet").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"documents\.parquet"):
        read_documents(tmp_path)


def test_half_written_documents_are_an_artifact_error(tmp_path: Path) -> None:
    write_documents(tmp_path, map(document, range(100)))
    path = tmp_path / "documents.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ArtifactError, match=r"documents\.parquet"):
        read_documents(tmp_path)


def test_jsonl_comes_back_as_written(tmp_path: Path) -> None:
    rows = [{"text": "ünï ☃\u2028\u0085 line", "n": 1.5, "none": None}, {"half": "\ud800"}]
    assert write_jsonl(tmp_path / "rows.jsonl", iter(rows)) == 2
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == rows


@pytest.mark.parametrize("bad", [b"{torn", b"[1]", b"\xff", b"[" * 100_000])
def test_a_bad_jsonl_line_is_named(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + bad + b"\n")
    with pytest.raises(ArtifactError, match=r"rows\.jsonl: line 2"):
        list(read_jsonl(path))


def test_a_missing_jsonl_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"gone\.jsonl"):
        list(read_jsonl(tmp_path / "gone.jsonl"))


def test_a_full_disk_names_path_and_free_space_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"rows\.jsonl.* MB free"), small_disk():
        write_jsonl(tmp_path / "rows.jsonl", (document(number) for number in range(1000)))
    noise = ("".join(chr(0x4E00 + (number * place * place) % 20000) for place in range(900)) for number in range(5000))
    with pytest.raises(ResourceError, match=r"documents\.parquet.* MB free"), small_disk():
        write_documents(tmp_path, (document(number, text) for number, text in enumerate(noise)))
    assert list(tmp_path.iterdir()) == []


def test_a_device_without_space_is_a_resource_error(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(ResourceError), atomic(tmp_path / "x"), open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"old": 1}])

    def rows() -> Iterator[dict[str, int]]:
        yield {"new": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_jsonl(path, rows())
    assert list(read_jsonl(path)) == [{"old": 1}]
    assert list(tmp_path.iterdir()) == [path]
