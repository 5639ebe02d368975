"""Documents from text, Markdown, HTML and code files, and from the rows of JSONL, JSON, CSV and Parquet files."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tutelage.sources.files import SourceFile
from tutelage.sources.paragraphs import split_paragraphs
from tutelage.sources.records import decode, records
from tutelage.sources.rows import Format, NoFormat, ProblemLog, RowRefused

Split = Literal["none", "paragraphs"]
_CODE = (
    ".c .cc .cpp .cs .css .go .h .hpp .hs .java .jl .js .kt .lua .m .ml "
    ".php .pl .py .r .rb .rs .scala .sh .sql .swift .ts"
)
FILE_FORMATS: dict[str, str] = {
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    **dict.fromkeys(_CODE.split(), "code"),
}
FORMATS = (
    Format("a row with text", ("text",), '{"text": "…", "title": "…"}'),
    Format("a row with content", ("content",), '{"content": "…"}'),
    Format("a row with a body", ("body",), '{"body": "…"}'),
    Format("a story in sections", ("sections",), '{"title": "…", "sections": ["…", "…"]}'),
)
# Column of the artifact → the names it has in rows, in order of preference.
_METADATA = {
    "url": ("url",),
    "title": ("title",),
    "date": ("date",),
    "licence": ("licence", "license"),
    "language": ("language", "lang"),
}
_MAX_BYTES = 1 << 30  # Arrow's strings end at two gigabytes, and curation looks at one document at a time


@dataclass(frozen=True)
class DocumentOptions:
    """`licence` and `language` apply to documents that state none; `split` cuts plain text only."""

    licence: str | None = None
    language: str | None = None
    split: Split = "none"
    max_characters: int = 8000


def documents(files: Iterable[SourceFile], options: DocumentOptions, log: ProblemLog) -> Iterator[dict[str, Any]]:
    """Rows of documents.parquet; refused rows and files go to the log. A file is read only when its turn comes."""
    for file in files:
        found = _of_file(file, log) if file.suffix in FILE_FORMATS else _of_rows(file, log)
        for position, document in enumerate(_split(found, options)):
            document["licence"] = document.get("licence") or options.licence
            document["language"] = document.get("language") or options.language
            yield {"id": content_id(file.name, position, document["text"]), "source": file.name, **document}


def content_id(source: str, position: int, text: str) -> str:
    """Sixteen hexadecimal digits from where a row stands and what it holds: equal texts keep distinct ids."""
    return hashlib.sha256(f"{source}\0{position}\0{text}".encode()).hexdigest()[:16]


def _split(found: Iterable[dict[str, Any]], options: DocumentOptions) -> Iterator[dict[str, Any]]:
    for document in found:
        if options.split == "none" or document["format"] != "text":
            yield document
        else:
            for text in split_paragraphs(document["text"], options.max_characters):
                yield {**document, "text": text}


def _of_file(file: SourceFile, log: ProblemLog) -> Iterator[dict[str, Any]]:
    try:
        with file.open() as stream:
            data = stream.read(_MAX_BYTES + 1)
        yield {"text": _file_text(data), "format": FILE_FORMATS[file.suffix]}
    except RowRefused as refused:
        bad = getattr(refused.__cause__, "start", 0)
        log.refuse(str(file.path), data.count(b"\n", 0, bad) + 1, refused)
    except OSError as error:
        reason = f"the file cannot be read to its end: {error.strerror or error}"
        log.refuse(str(file.path), 1, RowRefused(reason, "check its permissions, or copy or download it again"))


def _file_text(data: bytes) -> str:
    if len(data) > _MAX_BYTES:
        raise RowRefused("a single document of more than 1 GiB", "cut the file, or write one document a line as JSONL")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise RowRefused("UTF-16 instead of UTF-8", "convert it: `iconv -f UTF-16 -t UTF-8`")
    text = decode(data).removeprefix("\ufeff").replace("\r\n", "\n")
    if not text.strip():
        raise RowRefused("an empty document", "remove the file")
    return text


def _of_rows(file: SourceFile, log: ProblemLog) -> Iterator[dict[str, Any]]:
    for record in records(file, log):
        try:
            yield document_of(record.row)
        except RowRefused as refused:
            log.refuse(str(file.path), record.line, refused)


def document_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The document in a row (`text`, `format` and metadata); a RowRefused says why there is none."""
    field = next((item.keys[0] for item in FORMATS if item.keys[0] in row), None)
    if field is None:
        raise NoFormat(row, FORMATS)
    value = row[field]
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = "\n\n".join(value)
    if not isinstance(value, str):
        raise RowRefused(f"`{field}` is not text", f"`{field}` is of type {type(value).__name__}: write a string")
    if not value.strip():
        raise RowRefused(f"`{field}` is empty", "remove the row or give it text")
    stated = row.get("format")
    known = isinstance(stated, str) and stated in FILE_FORMATS.values()
    return {"text": storable(value), "format": stated if known else "text", **_metadata(row)}


def _metadata(row: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for column, names in _METADATA.items():
        value = next((row[name] for name in names if row.get(name) not in (None, "")), None)
        if value is not None and not isinstance(value, (list, dict)):
            found[column] = storable(value.isoformat() if isinstance(value, datetime.date) else str(value))
    return found


def storable(text: str) -> str:
    """The text itself; half of a surrogate pair (JSON can escape one, UTF-8 cannot hold it) is a RowRefused."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowRefused(
            "half of a surrogate pair in the text",
            f"the escape \\u{ord(text[error.start]):04x} stands alone: remove it or write the whole character",
        ) from error
    return text
