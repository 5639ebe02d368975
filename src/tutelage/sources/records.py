"""Rows with their line numbers from JSONL, JSON, CSV, TSV, Parquet and YAML files; JSONL, CSV and Parquet stream."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tutelage.sources.files import SourceFile
from tutelage.sources.rows import ProblemLog, RowRefused

Row = dict[str, Any]
NumberedRows = Iterator[tuple[int, Row | RowRefused]]
_YAML_DEPTH = 6  # a row of messages is four deep
_BOM = b"\xef\xbb\xbf"
_OBJECT = RowRefused("not a JSON object", 'write each row as an object such as {"text": "…"}')


@dataclass(frozen=True)
class Record:
    """One row and where it stands; `line` counts from 1 (for Parquet: the row)."""

    file: SourceFile
    line: int
    row: Row


class FileRefused(RowRefused):
    """From `line` on, the rest of a file cannot be read."""

    def __init__(self, line: int, reason: str, mend: str) -> None:
        super().__init__(reason, mend)
        self.line = line


def records(file: SourceFile, log: ProblemLog) -> Iterator[Record]:
    """Every readable row of the file; what cannot be read goes to the log."""
    for line, row in _numbered(file):
        if isinstance(row, RowRefused):
            log.refuse(str(file.path), line, row)
        else:
            yield Record(file, line, row)


def _numbered(file: SourceFile) -> NumberedRows:
    try:
        with file.open() as stream:
            yield from READERS[file.suffix](file, stream)
    except FileRefused as refused:
        yield refused.line, refused
    except OSError as error:  # among them: truncated gz and zst streams
        reason = error.strerror or str(error)
        yield 1, RowRefused(f"the file cannot be read to its end: {reason}", "copy or download the file again")


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_STRICT_JSON = json.JSONDecoder(parse_constant=_not_json)


def decode(data: bytes, start: int = 0) -> str:
    """UTF-8 text; undecodable bytes are a RowRefused that names the byte offset (counted from `start`)."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        offset = start + error.start
        raise RowRefused(
            "bytes that are not UTF-8",
            f"byte {data[error.start]:#04x} at offset {offset} of the decompressed file: convert it, for example "
            "`iconv -f WINDOWS-1252 -t UTF-8`, or remove the byte",
        ) from error


def parse_json(text: str) -> Any:
    """Strict JSON (no NaN); a syntax error is a RowRefused with the line and column."""
    try:
        return _STRICT_JSON.decode(text)
    except json.JSONDecodeError as error:
        where = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise RowRefused("JSON syntax error", f"{where}: correct it there") from error
    except ValueError as error:
        raise RowRefused("JSON with a number that cannot be read", f"{error}: write it as a string") from error
    except RecursionError as error:
        raise RowRefused("JSON nested too deeply", "flatten the row") from error


def _jsonl(file: SourceFile, stream: BinaryIO) -> NumberedRows:
    start = 0
    for number, line in enumerate(stream, start=1):
        try:
            bare = line.removeprefix(_BOM) if number == 1 else line
            text = decode(bare, start + len(line) - len(bare)).strip()
            if text:
                yield number, _object(parse_line(text, number))
        except RowRefused as refused:
            yield number, refused
        start += len(line)


def parse_line(text: str, number: int) -> Any:
    """The JSON of line `number`; a syntax error names that line and not the line within the text."""
    try:
        return parse_json(text)
    except RowRefused as refused:
        refused.mend = refused.mend.replace("at line 1,", f"at line {number},")
        raise


def _object(value: Any) -> Row | RowRefused:
    return value if isinstance(value, dict) else _OBJECT


def _json(file: SourceFile, stream: BinaryIO) -> NumberedRows:
    """An array of objects (each numbered by the line it starts on), or one object; the file is held in memory."""
    try:
        text = decode(stream.read().removeprefix(_BOM))
        if not text.lstrip().startswith("["):
            if text.strip():
                yield 1, _object(parse_json(text))
            return
        values = parse_json(text)
    except RowRefused as refused:
        yield 1, refused
        return
    for line, value in zip(_element_lines(text), values, strict=True):
        yield line, _object(value)


def _element_lines(text: str) -> Iterator[int]:
    """The line on which each element of a (valid) array starts."""
    decoder = json.JSONDecoder()
    position, line, counted = text.index("[") + 1, 1, 0
    while True:
        while text[position] in " \t\r\n,":
            position += 1
        if text[position] == "]":
            return
        line += text.count("\n", counted, position)
        counted = position
        yield line
        _, position = decoder.raw_decode(text, position)


def _csv(file: SourceFile, stream: BinaryIO) -> NumberedRows:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # documents are longer than the 128 KB that csv allows
    dialect = "excel-tab" if file.suffix == ".tsv" else "excel"
    reader = csv.DictReader(_lines(stream), dialect=dialect, strict=True)
    begins = 2  # a row may span lines: it is named by its first
    try:
        for row in reader:
            if None in row:
                reason = "more fields than the header names"
                yield begins, RowRefused(reason, "quote the fields that hold the separator")
            else:
                yield begins, {key: value for key, value in row.items() if value is not None}
            begins = reader.line_num + 1
    except csv.Error as error:
        mend = f"{error}: correct the quoting there; nothing after it was read"
        raise FileRefused(begins, "CSV syntax error", mend) from error


def _lines(stream: BinaryIO) -> Iterator[str]:
    start = 0
    for number, line in enumerate(stream, start=1):
        try:
            yield decode(line.removeprefix(_BOM) if number == 1 else line, start)
        except RowRefused as refused:
            raise FileRefused(number, refused.reason, f"{refused.mend}; nothing after it was read") from refused
        start += len(line)


def _parquet(file: SourceFile, stream: BinaryIO) -> NumberedRows:
    number = 0
    try:
        # A compressed Parquet file cannot seek, so it is read whole; the usual one is streamed batch by batch.
        source = pa.BufferReader(stream.read()) if file.compression else file.path
        with pq.ParquetFile(source) as table:
            for row in (row for batch in table.iter_batches(batch_size=1024) for row in batch.to_pylist()):
                number += 1
                yield number, {key: value for key, value in row.items() if value is not None}
    except (pa.ArrowException, UnicodeDecodeError, ValueError, OverflowError) as error:
        reason = "the Parquet file cannot be read to its end"
        raise FileRefused(number + 1, reason, f"{error}: write it again or download it again") from error


def _yaml(file: SourceFile, stream: BinaryIO) -> NumberedRows:
    """A list of rows, or chatterbot's `conversations:`, a list of lists of turns; every scalar is a string."""
    try:
        root = yaml.compose(stream, Loader=yaml.SafeLoader)
        yield from _yaml_rows(root) if root is not None else ()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        mend = f"{problem} at line {line}, column {column}: correct it there"
        raise FileRefused(line, "YAML syntax error", mend) from error
    except (RecursionError, ValueError, IndexError) as error:  # ValueError and IndexError: odd escapes in the scanner
        raise FileRefused(1, "YAML that cannot be read", f"{error}: write the rows as JSON lines") from error


def _yaml_rows(root: yaml.Node) -> NumberedRows:
    shared: Row = {}
    nodes = [root]
    if isinstance(root, yaml.SequenceNode):
        nodes = root.value
    elif isinstance(root, yaml.MappingNode):
        fields = {str(key.value): value for key, value in root.value}
        if isinstance(fields.get("conversations"), yaml.SequenceNode):
            nodes = fields.pop("conversations").value
            shared = {key: _plain(value) for key, value in fields.items()}
    for node in nodes:
        value = _plain(node)
        if isinstance(value, list):
            value = {**shared, "turns": value}
        not_rows = RowRefused("neither a mapping nor a list of turns", "write each row as `key: value` lines")
        yield node.start_mark.line + 1, value if isinstance(value, dict) else not_rows


def _plain(node: yaml.Node, depth: int = 0) -> Any:
    if depth > _YAML_DEPTH:  # an alias may point at its own parent, or double what it points at level by level
        raise ValueError(f"nested more than {_YAML_DEPTH} deep")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, depth + 1) for child in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(_plain(key, depth + 1)): _plain(value, depth + 1) for key, value in node.value}
    return node.value


READERS: dict[str, Callable[[SourceFile, BinaryIO], NumberedRows]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".yaml": _yaml,
    ".yml": _yaml,
}
