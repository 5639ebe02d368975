"""Files that survive a kill: written beside and renamed, checksummed, flushed to the disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_LARGE = 256 * 1024 * 1024  # bytes; a larger input file is fingerprinted by samples and its modification time
_SAMPLES = 16
_SAMPLE_BYTES = 1024 * 1024


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, so that equal values have equal digests in every process."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def short(fingerprint: str) -> str:
    """The first eight characters, enough for a person to tell two apart."""
    return fingerprint[:8]


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: Path) -> list[Path]:
    """All files below `folder`, sorted by their relative path."""
    return sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.as_posix())


def write_atomic(path: Path, text: str) -> None:
    """Write `text` so that a reader, or a kill, finds the old file or the new one and nothing between."""
    beside = path.with_name(path.name + ".tmp")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    flush([path.parent])


def flush(paths: Iterable[Path]) -> None:
    """Force files or folders to the disk: a rename must not outrun the bytes it publishes."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def flush_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, and `folder` itself."""
    flush(path for path in sorted(folder.rglob("*")) if path.is_file() or path.is_dir())
    flush([folder])


def content_fingerprint(files: Iterable[tuple[str, Path]]) -> str:
    """Fingerprint of input files given as (name, path); a file above 256 MiB is sampled (and its time counts)."""
    return digest([[name, _file_fingerprint(path)] for name, path in files])


def _file_fingerprint(path: Path) -> str:
    stat = path.stat()
    if stat.st_size <= _LARGE:
        return sha256_file(path)
    sampled = hashlib.sha256(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    with path.open("rb") as file:
        for sample in range(_SAMPLES):
            file.seek((stat.st_size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
            sampled.update(file.read(_SAMPLE_BYTES))
    return sampled.hexdigest()
