"""What an artifact holds, in words, read from its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from tutelage.errors import ArtifactError
from tutelage.evaluation.report.text import count, percent


def what_is_in(folder: Path) -> list[str]:
    """Phrases such as `4,812 documents` for the known files of a stage's folder and its output folders."""
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = [_say(say, place / file) for file, say in READERS.items() for place in places if (place / file).exists()]
    return [phrase for phrase in found if phrase]


def _say(say: Callable[[Path], str], path: Path) -> str:
    try:
        return say(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        stage = path.parent.name
        raise ArtifactError(f"{path}: cannot be read: {error}", hint=f"make it again: --from {stage}") from error


def parameters(folder: Path) -> int | None:
    """How many numbers a model's safetensors file holds, from its header; None where there is no such file."""
    path = folder / "model.safetensors"
    if not path.exists():
        return None
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for dimension in tensor["shape"]:
                size *= dimension
            total += size
    return total


def tokens_in(path: Path) -> int:
    """Tokens in a `.bin` file of u16 or u32, as `tokens.json` beside it says (u16 unless it speaks of 32 bits)."""
    about = path.with_name("tokens.json")
    wide = about.exists() and any(word in about.read_text(encoding="utf-8") for word in ('"u32"', '"uint32"', '"<u4"'))
    return path.stat().st_size // (4 if wide else 2)


def _documents(path: Path) -> str:
    kept = pq.read_metadata(path).num_rows
    decisions = path.with_name("decisions.parquet")
    if decisions.exists():
        return f"{count(pq.read_metadata(decisions).num_rows)} documents → {count(kept)} kept"
    return count(kept, "documents")


def _lines(noun: str) -> Callable[[Path], str]:
    def say(path: Path) -> str:
        with path.open("rb") as file:
            return count(sum(1 for line in file if line.strip()), noun)

    return say


def _problems(path: Path) -> str:
    refused = _lines("rows refused")(path)
    return "" if refused.startswith("0 ") else refused


def _preferences(path: Path) -> str:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    known = [bool(row["clean_preference"]) for row in rows if row.get("clean_preference") is not None]
    flipped = f", {percent(known.count(False) / len(known))} flipped" if known and not all(known) else ""
    return count(len(rows), "pairs") + flipped


def _vocabulary(path: Path) -> str:
    model = json.loads(path.read_text(encoding="utf-8"))
    # a model's folder has its tokenizer as well; it is news only where it was made
    if path.with_name("model.safetensors").exists():
        return ""
    words = set(model.get("model", {}).get("vocab", {}))
    words |= {token.get("content") for token in model.get("added_tokens", [])}
    return count(len(words), "tokens known")


def _model(path: Path) -> str:
    size = parameters(path.parent)
    return count(size, "parameters") if size is not None else ""


def _results(path: Path) -> str:
    rows = json.loads(path.read_text(encoding="utf-8"))
    models = {row.get("model") for row in rows}
    return f"{count(len(rows), 'results')}, {count(len(models), 'models')}"


READERS: dict[str, Callable[[Path], str]] = {
    "documents.parquet": _documents,
    "problems.jsonl": _problems,
    "tokenizer.json": _vocabulary,
    "train.bin": lambda path: count(tokens_in(path), "tokens"),
    "conversations.jsonl": _lines("conversations"),
    "prompts.jsonl": _lines("prompts"),
    "completions.jsonl": _lines("completions"),
    "principles.jsonl": _lines("principles"),
    "preferences.jsonl": _preferences,
    "tasks.jsonl": _lines("test items"),
    "model.safetensors": _model,
    "results.json": _results,
}
