from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from tutelage.errors import DataError
from tutelage.sources.files import SourceFile, expand, fingerprint


def write(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("data/b.txt", "data/a/z.txt", "data/a/y.jsonl", "data/.hidden", "data/.git/config", "other/b.txt"):
        write(tmp_path / name, name.encode())
    return tmp_path


def names(files: list[SourceFile]) -> list[str]:
    return [file.name for file in files]


def test_a_folder_is_walked_in_order_without_hidden_files(tree: Path) -> None:
    assert names(expand(str(tree / "data"))) == ["data/a/y.jsonl", "data/a/z.txt", "data/b.txt"]


def test_a_file_and_globs(tree: Path) -> None:
    assert names(expand(str(tree / "data" / "b.txt"))) == ["b.txt"]
    assert names(expand(str(tree / "data" / "**" / "*.txt"))) == ["data/a/z.txt", "data/b.txt"]
    assert len(expand(str(tree / "*"))) == 4


def test_a_list_keeps_its_order_and_names_each_file_once(tree: Path) -> None:
    files = expand([str(tree / "other"), str(tree / "data"), str(tree / "data" / "b.txt")])
    assert names(files) == ["other/b.txt", "data/a/y.jsonl", "data/a/z.txt", "data/b.txt"]


def test_two_files_of_one_name_stay_distinct(tree: Path) -> None:
    files = expand([str(tree / "other" / "b.txt"), str(tree / "data" / "b.txt")])
    assert len(set(names(files))) == 2


def test_home_and_variables_are_expanded(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree))
    monkeypatch.setenv("CORPUS", str(tree / "data"))
    assert names(expand("~/data/b.txt")) == names(expand("$CORPUS/b.txt")) == ["b.txt"]


def test_names_do_not_depend_on_where_the_data_lies(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert names(expand("data")) == names(expand(str(tree / "data")))
    assert fingerprint("data") == fingerprint(str(tree / "data"))


@pytest.mark.parametrize(
    "path", ["nowhere", "data/*.csv", "", "hf://someone/something", "data/b.txt/x", "n" * 5000, "\0"]
)
def test_missing_data_says_what_is_needed(tree: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tree)
    with pytest.raises(DataError) as caught:
        expand(path, needs="get it from the shelf")
    assert path[:100] in caught.value.message or repr(path) in caught.value.message
    assert caught.value.hint == "get it from the shelf"
    with pytest.raises(DataError) as caught:
        expand([path])
    assert caught.value.hint


def test_an_empty_folder_and_an_empty_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no files"):
        expand(str(tmp_path))
    with pytest.raises(DataError, match="empty list"):
        expand([])


@pytest.mark.parametrize("kind", ["", ".gz", ".zst"])
def test_compression_is_transparent(tmp_path: Path, kind: str) -> None:
    content = "".join(f"line {number} ☃\n" for number in range(50_000)).encode()
    path = tmp_path / f"rows.JSONL{kind}"
    if kind == ".zst":
        with pa.CompressedOutputStream(str(path), "zstd") as out:
            out.write(content)
    else:
        path.write_bytes(gzip.compress(content) if kind else content)
    (file,) = expand(str(path))
    assert file.suffix == ".jsonl"
    with file.open() as stream:
        assert b"".join(stream) == content


def test_the_fingerprint_sees_contents_and_names_but_not_times(tree: Path) -> None:
    data = str(tree / "data")
    first = fingerprint(data)
    write(tree / "data" / "b.txt", b"data/b.txt")
    assert fingerprint(data) == first
    write(tree / "data" / "b.txt", b"data/B.txt")
    changed = fingerprint(data)
    (tree / "data" / "b.txt").rename(tree / "data" / "c.txt")
    assert len({first, changed, fingerprint(data)}) == 3
