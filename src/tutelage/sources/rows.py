"""Rows that cannot be used: reported with file, line, reason and mend; the run goes on or stops, as the recipe says."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from tutelage.errors import DataError
from tutelage.sources.files import Paths, printable
from tutelage.sources.store import atomic

Policy = Literal["skip", "stop"]
PROBLEMS_FILE = "problems.jsonl"
_SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """One refused row: `line` counts from 1 (for Parquet: the row); `reason` holds no values, so it can be counted."""

    file: str
    line: int
    reason: str
    mend: str


@dataclass(frozen=True)
class Format:
    """An accepted row format: a row is of it when it has all `keys`; `example` is shown to people."""

    name: str
    keys: tuple[str, ...]
    example: str


class RowRefused(Exception):  # noqa: N818  (a message from a converter to the log, never seen by a user)
    """A row of a known format that cannot be used, with the reason and the mend."""

    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.mend = mend


class NoFormat(RowRefused):
    """A row that fits no accepted format."""

    def __init__(self, row: Mapping[str, Any], formats: Sequence[Format]) -> None:
        super().__init__("fits no accepted format", nearest(row, formats))
        self.keys = [str(key) for key in row]
        self.formats = formats


class ProblemLog:
    """Counts and writes refused rows; with the policy `stop` the first one is a DataError."""

    def __init__(self, file: BinaryIO, policy: Policy) -> None:
        self.policy = policy
        self.counts: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()  # parts of rows that are used otherwise
        self.first: list[Problem] = []
        self.unknown: NoFormat | None = None
        self._file = file

    def add(self, problem: Problem) -> None:
        """Record a refused row, or stop at it."""
        if self.policy == "stop":
            raise DataError(
                f"{problem.file}:{problem.line}: {problem.reason}",
                hint=f"{problem.mend}; or set on_problem: skip to go on without such rows",
            )
        self.counts[problem.reason] += 1
        if len(self.first) < _SHOWN:
            self.first.append(problem)
        self._file.write(json.dumps(asdict(problem)).encode() + b"\n")

    def refuse(self, file: str, line: int, refused: RowRefused) -> None:
        """Record what a converter refused."""
        if isinstance(refused, NoFormat):
            self.unknown = self.unknown or refused
        self.add(Problem(printable(file), line, refused.reason, refused.mend))

    def notes(self, accepted: int) -> list[str]:
        """Sentences for a person: how many rows were refused, why, and the first few with file and line."""
        total = self.counts.total()
        left_out = [f"{count} {what} and were left out" for what, count in self.left_out.items()]
        if not total:
            return left_out
        reasons = "; ".join(f"{reason} ({count})" for reason, count in self.counts.most_common())
        lines = [f"{total} of {total + accepted} rows were refused: {reasons}. All of them: {PROBLEMS_FILE}"]
        lines += [f"{item.file}:{item.line}: {item.reason} → {item.mend}" for item in self.first]
        return lines + left_out

    def require(self, accepted: int, paths: Paths, needs: str = "") -> None:
        """A DataError that explains itself when not a single row could be used."""
        if accepted:
            return
        where = paths if isinstance(paths, str) else ", ".join(paths)
        if not self.counts:
            raise DataError(f"{where}: no rows in it", hint=needs or "an empty data set cannot be used: check the path")
        first = self.first[0]
        if self.unknown is not None and self.counts[self.unknown.reason] * 2 >= self.counts.total():
            raise _no_format(where, self.counts[self.unknown.reason], self.unknown)
        reason, count = self.counts.most_common(1)[0]
        raise DataError(
            f"{where}: none of its {self.counts.total()} rows can be used; most often ({count}): {reason}; "
            f"the first: {first.file}:{first.line}: {first.reason}",
            hint=first.mend,
        )


def _no_format(where: str, count: int, unknown: NoFormat) -> DataError:
    keys = ", ".join(unknown.keys[:20]) or "none"
    accepted = "".join(f"\n    {item.name}: {item.example}" for item in unknown.formats)
    return DataError(
        f"{where}: {count} rows fit no accepted format. Keys of the first: {keys}. Accepted:{accepted}",
        hint=unknown.mend,
    )


@contextmanager
def problem_log(folder: Path, policy: Policy) -> Iterator[ProblemLog]:
    """A log that writes `folder/problems.jsonl`."""
    with atomic(folder / PROBLEMS_FILE) as beside, beside.open("wb") as file:
        yield ProblemLog(file, policy)


# What people call a field that a format names otherwise.
_SYNONYMS = {
    "messages": ("message", "conversation", "dialog", "dialogue", "turns", "history"),
    "conversations": ("conversation", "dialog", "dialogue", "turns"),
    "output": ("answer", "response", "completion", "reply", "target", "result"),
    "response": ("answer", "output", "completion", "reply", "target"),
    "completion": ("answer", "response", "output", "reply", "target", "continuation", "generation"),
    "answer": ("response", "output", "completion", "reply", "target"),
    "instruction": ("question", "prompt", "query", "task", "input"),
    "prompt": ("question", "instruction", "query", "input", "context"),
    "question": ("instruction", "prompt", "query", "input"),
    "text": ("texts", "raw_text", "full_text", "document", "article", "page_content", "story", "sentence"),
    "chosen": ("preferred", "winner", "better", "accepted", "positive", "best"),
    "rejected": ("loser", "worse", "dispreferred", "negative", "worst"),
    "responses": ("completions", "answers", "candidates", "outputs"),
    "ranks": ("ranking", "rank", "order", "scores"),
}


def nearest(row: Mapping[str, Any], formats: Sequence[Format]) -> str:
    """What to rename or add so that the row fits the format it is nearest to; earlier formats win ties."""
    best, renames, missing, best_score = formats[0], dict[str, str](), list(formats[0].keys), -1.0
    for item in formats:
        renamed, absent = _bridge(row, item.keys)
        score = (len(item.keys) - len(absent) - 0.5 * len(renamed)) / len(item.keys)
        if score > best_score:
            best, renames, missing, best_score = item, renamed, absent, score
    if best_score <= 0:
        return f"convert it to one of the accepted formats, for example {best.example}"
    steps = [f"rename `{old}` to `{new}`" for old, new in renames.items()]
    steps += [f"add `{key}`" for key in missing]
    return f"nearest is {best.name} {best.example}: " + (", ".join(steps) or "give these fields text")


def _bridge(row: Mapping[str, Any], keys: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Fields of the row that stand for absent keys, and the keys that nothing stands for."""
    left = [str(key) for key in row if key not in keys and not str(key).lower().endswith("id")]
    renames: dict[str, str] = {}
    absent = []
    for key in (key for key in keys if key not in row):
        names = (key, *_SYNONYMS.get(key, ()))
        match = next((old for name in names for old in left if old.lower() == name), None)
        match = match or next(iter(difflib.get_close_matches(key, left, n=1, cutoff=0.8)), None)
        if match is None:
            absent.append(key)
        else:
            renames[match] = key
            left.remove(match)
    return renames, absent
