"""From the `path` of a recipe (file, folder, glob, or a list of them) to files in a stable order, decompressed."""

from __future__ import annotations

import glob
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from tutelage.errors import DataError

Paths = str | Sequence[str]
_COMPRESSION = {".gz": "gzip", ".zst": "zstd"}


@dataclass(frozen=True)
class SourceFile:
    """A file to read: `name` is the same on every machine (relative to the folder above what the recipe names)."""

    path: Path
    name: str

    @property
    def suffix(self) -> str:
        """The lower-case suffix that tells the format: `.jsonl` for `x.jsonl.gz`."""
        path = self.path.with_suffix("") if self.compression else self.path
        return path.suffix.lower()

    @property
    def compression(self) -> str | None:
        """The name of the compression, or None."""
        return _COMPRESSION.get(self.path.suffix.lower())

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The decompressed bytes as a stream; a file that cannot be opened raises OSError."""
        if self.compression is None:
            with self.path.open("rb") as file:
                yield file
            return
        with pa.input_stream(str(self.path), compression=self.compression) as stream:
            yield cast(BinaryIO, io.BufferedReader(stream, 1 << 20))


def expand(paths: Paths, needs: str = "") -> list[SourceFile]:
    """Every file that the paths name, each once, sorted within a path; nothing there is a DataError hinting `needs`.

    `~` and environment variables are expanded. Folders are walked without hidden files and without following links.
    """
    listed = [paths] if isinstance(paths, str) else list(paths)
    if not listed:
        raise DataError("path: an empty list names no data", hint=needs or "name a file, a folder or a glob")
    found: dict[Path, str] = {}
    for text in listed:
        for path, name in _expand_one(text, needs):
            found.setdefault(path, printable(name))
    seen = Counter(found.values())
    return [SourceFile(path, name if seen[name] == 1 else printable(path.as_posix())) for path, name in found.items()]


def printable(name: str) -> str:
    """A name whose bytes are not UTF-8 (Linux allows it) with replacement characters, so that it can be stored."""
    return os.fsencode(name).decode(errors="replace")


def _expand_one(text: str, needs: str) -> list[tuple[Path, str]]:
    expanded = os.path.expanduser(os.path.expandvars(text))
    path = Path(expanded)
    if not text or "\0" in expanded:
        raise DataError(f"path: {text!r} is not a path", hint=needs or "name a file, a folder or a glob")
    if "://" in expanded:
        raise DataError(f"{text}: only local files are read", hint=needs or "download it and give the local path")
    try:
        if path.is_file():
            return [(path, path.name)]
        if path.is_dir():
            files = [(file, file.relative_to(path.parent).as_posix()) for file in _walk(path)]
        else:
            files = _matches(expanded)
    except OSError as error:
        raise DataError(f"{text}: {error.strerror}", hint=needs or "check the path") from error
    if files:
        return files
    if path.is_dir():
        raise DataError(f"{text}: the folder holds no files", hint=needs or "put the data there or correct the path")
    raise DataError(f"{text}: no such file or folder{_from_where(expanded)}", hint=needs or _nearest_folder(path))


def _walk(folder: Path) -> Iterator[Path]:
    files = []
    for directory, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        files += [Path(directory, name) for name in names if not name.startswith(".")]
    yield from sorted((file for file in files if file.is_file()), key=lambda file: file.parts)


def _matches(pattern: str) -> list[tuple[Path, str]]:
    if not glob.has_magic(pattern):
        return []
    fixed: list[str] = []  # the leading parts without wildcards: names are relative to the folder above them
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    root = Path(*fixed) if fixed else Path()
    files = []
    for match in sorted(Path(match) for match in glob.glob(pattern, recursive=True)):
        for file in _walk(match) if match.is_dir() else [match]:
            files.append((file, file.relative_to(root.parent if fixed else root).as_posix()))
    return files


def _from_where(expanded: str) -> str:
    return "" if os.path.isabs(expanded) else f" (looked for from {Path.cwd()})"


def _nearest_folder(path: Path) -> str:
    there = next((parent for parent in path.parents if parent.is_dir()), Path())
    return f"correct the path or put the data there; {there.resolve()} exists"


def fingerprint(paths: Paths, needs: str = "") -> str:
    """SHA-256 over the names and contents of all files that the paths name, streamed; missing data is a DataError."""
    digest = hashlib.sha256()
    for file in expand(paths, needs):
        try:
            with file.path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise unreadable(file, error) from error
        digest.update(f"{file.name}\0{content}\n".encode())
    return digest.hexdigest()


def unreadable(file: SourceFile, error: OSError) -> DataError:
    """The error for a file that is there and cannot be read (permissions, a failing disk)."""
    return DataError(f"{file.path}: cannot be read: {error.strerror or error}", hint="check its permissions")
