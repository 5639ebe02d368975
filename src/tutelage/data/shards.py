"""Tokens on disk: one file of numbers a split, document offsets beside it, and a manifest without which they are noise.

train.bin            tokens, little-endian u16, or u32 for a vocabulary above 65,536
train.offsets.bin    u64: where each document begins, and the end
spans.parquet        document, source, split, start, end: which tokens came from which document
tokens.json          dtype, counts, bytes of text, the tokenizer's fingerprint, checksums
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import ArtifactError

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
FORMAT = 1


class ShardWriter:
    """Writes a Tokens artifact into `folder`; use as a context manager: the manifest comes last, when all is well.

    With `boundaries` each document is stored as begin-of-document, tokens, end-of-document; without, the documents
    are parts of one running text and are stored as they are.
    """

    def __init__(self, folder: Path, tokenizer: TextTokenizer, *, boundaries: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._tokenizer = tokenizer
        self._boundaries = boundaries
        self._dtype = "<u2" if tokenizer.vocab_size <= 65_536 else "<u4"
        self._files: dict[Split, BinaryIO] = {split: (folder / f"{split}.bin").open("wb") for split in SPLITS}
        self._offsets: dict[Split, list[int]] = {split: [0] for split in SPLITS}
        self._bytes: dict[Split, int] = dict.fromkeys(SPLITS, 0)
        self._spans: dict[str, list[Any]] = {name: [] for name in ("document", "source", "split", "start", "end")}

    def add(self, split: Split, ids: Sequence[int], *, document: str, source: str, num_bytes: int) -> None:
        """Append one document; `num_bytes` is the length of its text in UTF-8."""
        tokens = [self._tokenizer.bos_id, *ids, self._tokenizer.eos_id] if self._boundaries else ids
        self._files[split].write(np.asarray(tokens, dtype=self._dtype).tobytes())
        start = self._offsets[split][-1]
        end = start + len(tokens)
        self._offsets[split].append(end)
        self._bytes[split] += num_bytes
        for name, value in zip(self._spans, (document, source, split, start, end), strict=True):
            self._spans[name].append(value)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        if kind is None:
            self._finish()

    def _finish(self) -> None:
        for split in SPLITS:
            offsets = np.asarray(self._offsets[split], dtype="<u8")
            (self._folder / f"{split}.offsets.bin").write_bytes(offsets.tobytes())
        types = {
            "document": pa.string(),
            "source": pa.string(),
            "split": pa.string(),
            "start": pa.int64(),
            "end": pa.int64(),
        }
        table = pa.table({name: pa.array(values, types[name]) for name, values in self._spans.items()})
        pq.write_table(table, self._folder / "spans.parquet", compression="zstd")
        manifest = {
            "format": FORMAT,
            "dtype": self._dtype,
            "tokenizer": self._tokenizer.fingerprint,
            "vocab_size": self._tokenizer.vocab_size,
            "pad_id": self._tokenizer.pad_id,
            "boundaries": self._boundaries,
            "splits": {
                split: {
                    "documents": len(self._offsets[split]) - 1,
                    "tokens": self._offsets[split][-1],
                    "bytes": self._bytes[split],
                }
                for split in SPLITS
            },
            "files": {name: _describe(self._folder / name) for name in _file_names()},
        }
        beside = self._folder / "tokens.json.tmp"
        beside.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        os.replace(beside, self._folder / "tokens.json")


class TokenShard:
    """One split of a Tokens artifact, memory-mapped; `len()` is the number of documents."""

    def __init__(self, folder: Path, split: Split) -> None:
        manifest = read_manifest(folder)
        for name in (f"{split}.bin", f"{split}.offsets.bin"):
            _check_size(folder / name, manifest["files"][name]["bytes"])
        counts = manifest["splits"][split]
        self.folder, self.split = folder, split
        self.num_tokens: int = counts["tokens"]
        self.num_bytes: int = counts["bytes"]  # of the documents' text: what bits per byte divide by
        self.boundaries: bool = manifest["boundaries"]
        self.pad_id: int = manifest["pad_id"]
        self.vocab_size: int = manifest["vocab_size"]
        self.tokenizer_fingerprint: str = manifest["tokenizer"]
        self.offsets = np.fromfile(folder / f"{split}.offsets.bin", dtype="<u8").astype(np.int64)
        self.tokens = _map(folder / f"{split}.bin", manifest["dtype"])
        if len(self.offsets) != counts["documents"] + 1 or self.offsets[-1] != len(self.tokens):
            raise _damaged(folder / f"{split}.offsets.bin", "it does not fit to the tokens")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def document(self, index: int) -> npt.NDArray[np.unsignedinteger[Any]]:
        """The tokens of one document, with its begin and end."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The contents of `tokens.json`; `ArtifactError` where it is missing, damaged or of another format."""
    path = folder / "tokens.json"
    if not path.is_file():
        raise ArtifactError(
            f"{folder} has no tokens.json, without which nobody knows what the numbers in its files mean",
            hint="make the tokens with a `tokenize` stage; files without a manifest are never guessed at",
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT or manifest["dtype"] not in ("<u2", "<u4"):
            raise ArtifactError(
                f"{path} has the format {manifest['format']}, not {FORMAT}", hint="run `tokenize` again"
            )
        known = {"tokenizer", "vocab_size", "pad_id", "boundaries", "splits", "files"} <= manifest.keys()
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, "it is no manifest of tokens") from error
    if not known:
        raise _damaged(path, "entries are missing")
    return dict(manifest)


def verify_shards(folder: Path) -> None:
    """Read every file again; `ArtifactError` where one differs from its checksum."""
    files: Mapping[str, Mapping[str, Any]] = read_manifest(folder)["files"]
    for name, expected in files.items():
        _check_size(folder / name, expected["bytes"])
        if _describe(folder / name) != expected:
            raise _damaged(folder / name, "its checksum differs")


def _file_names() -> list[str]:
    return [*(name for split in SPLITS for name in (f"{split}.bin", f"{split}.offsets.bin")), "spans.parquet"]


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _map(path: Path, dtype: str) -> npt.NDArray[np.unsignedinteger[Any]]:
    if path.stat().st_size == 0:  # nothing to map
        return np.empty(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")


def _check_size(path: Path, expected: int) -> None:
    if not path.is_file():
        raise _damaged(path, "it is missing")
    if path.stat().st_size != expected:
        raise _damaged(path, f"it has {path.stat().st_size} bytes instead of {expected}")


def _damaged(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(f"{path} is damaged: {reason}", hint="run the `tokenize` stage again")
