"""The files inside our own artifacts: documents as Parquet, everything nested as JSON lines. All writes are atomic."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tutelage.errors import ArtifactError, ResourceError

DOCUMENTS_FILE = "documents.parquet"
documents_schema = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("title", pa.string()),
        pa.field("date", pa.string()),
        pa.field("licence", pa.string()),
        pa.field("language", pa.string()),
        pa.field("format", pa.string()),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
    ]
)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ROWS_A_BATCH = 4096
_CHARACTERS_A_BATCH = 16_000_000  # keeps a batch far below Arrow's two gigabytes a string column


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to and rename it when whole; a full disk is a ResourceError."""
    beside = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        if error.errno in _FULL:
            raise _disk_full(path, error) from error
        raise
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _disk_full(path: Path, error: OSError) -> ResourceError:
    free = shutil.disk_usage(path.parent).free
    reason = os.strerror(error.errno or errno.ENOSPC)
    return ResourceError(
        f"{path}: cannot be written whole: {reason} ({free / 1e6:,.1f} MB free there)",
        hint="free some space or choose another run folder, then run the same command: finished stages are kept",
    )


def write_documents(folder: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Stream rows into `folder/documents.parquet` and return how many; optional keys may be left out of a row."""
    count = 0
    with (
        atomic(folder / DOCUMENTS_FILE) as beside,
        pq.ParquetWriter(beside, documents_schema, compression="zstd") as out,
    ):
        for batch in _batches(rows):
            out.write_table(pa.Table.from_pylist(batch, schema=documents_schema))
            count += len(batch)
    return count


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    characters = 0
    for row in rows:
        assert row.keys() <= set(documents_schema.names), f"unknown columns: {sorted(row.keys())}"
        batch.append({**row, "labels": row.get("labels") or []})
        characters += len(row["text"])
        if len(batch) >= _ROWS_A_BATCH or characters >= _CHARACTERS_A_BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def read_documents(folder: Path) -> pa.Table:
    """The table of `folder/documents.parquet`; a missing, damaged or foreign file is an ArtifactError."""
    path = folder / DOCUMENTS_FILE
    try:
        table = pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, str(error)) from error
    missing = [name for name in documents_schema.names if name not in table.column_names]
    if missing:
        raise _damaged(path, f"no column {', '.join(missing)}")
    return table


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one JSON object a line, streaming, and return how many; keys keep their order, numbers are finite."""
    count = 0
    with atomic(path) as beside, beside.open("wb") as file:
        for row in rows:
            file.write(_json_line(row))
            count += 1
    return count


def _json_line(row: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair has no UTF-8 form, but JSON can still escape it
        return json.dumps(row, allow_nan=False).encode() + b"\n"


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of one of our own JSONL files, streaming; a line that is not an object is an ArtifactError."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield _parse_line(path, number, line)
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error


def _parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"line {number} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise _damaged(path, f"line {number} is not a JSON object")
    return row


def _damaged(path: Path, what: str) -> ArtifactError:
    return ArtifactError(
        f"{path}: {what}",
        hint="delete the stage's folder and run the recipe again: the stage will be made anew",
    )
