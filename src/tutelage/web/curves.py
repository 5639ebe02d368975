"""Curves for the eye: of many points those that show every peak, NaN kept as a gap that is told, branches beside.

A page asks with the cursor that it was given last and gets what was appended since; where the journal has become
another one (a resumed run goes back to its checkpoint), the answer is whole again and says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.run.journal import branches_of, read_journal

_LAST_BYTES = 1 << 16  # in which the last row of a journal is looked for
MAX_POINTS = 600  # of one curve; a screen has not many more pixels
_NOT_METRICS = ("step", "time", "branch")
_FIRST, _LAST = ("validation/", "train/", "rewards/", "objective/"), ("grad_norm", "lr", "tokens_per_second")

Row = Mapping[str, Any]
Point = tuple[float, float | None]


@dataclass(frozen=True)
class Tail:
    """Rows of a journal after a cursor; `fresh` where they are all of them, because the cursor was of another file."""

    rows: list[dict[str, Any]]
    cursor: str
    fresh: bool


def read_tail(path: Path, cursor: str) -> Tail:
    """The whole rows that were appended since `cursor`, and the cursor to ask with next."""
    with path.open("rb") as file:
        first = file.readline()
        branches = branches_of(path)
        name = f"{_began(first)}-{branches.stat().st_size if branches.exists() else 0}"
        known, _, place = cursor.rpartition(".")
        start = int(place) if known == name and place.isascii() and place.isdigit() and len(place) < 19 else 0
        file.seek(start)
        found = file.read()
    whole = found[: found.rfind(b"\n") + 1]
    rows = [row for line in whole.split(b"\n") if (row := _row(line))]
    return Tail(rows, f"{name}.{start + len(whole)}", start == 0)


def ends(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first and the last whole row, without reading what is between; empty where there is none."""
    with path.open("rb") as file:
        first = file.readline()
        file.seek(max(0, path.stat().st_size - _LAST_BYTES))
        lines = [line for line in file.read().split(b"\n")[:-1] if line]
    return _row(first), _row(lines[-1] if lines else b"")


def _row(line: bytes) -> dict[str, Any]:
    try:
        return {**json.loads(line)}
    except (ValueError, TypeError):
        return {}


def _began(line: bytes) -> str:
    return str(_row(line).get("time", "empty")).replace(".", "_")


def read_branches(path: Path) -> list[list[dict[str, Any]]]:
    """What a resumed run left behind, branch by branch."""
    file = branches_of(path)
    rows = read_journal(file) if file.exists() else []
    numbers = dict.fromkeys(row["branch"] for row in rows)
    return [[row for row in rows if row["branch"] == number] for number in numbers]


def picked(rows: Sequence[Row], branches: Sequence[Sequence[Row]] = ()) -> list[dict[str, Any]]:
    """[{name, steps, values, broken, branches}]: `broken` are the steps whose value is no finite number."""
    left = [_series(branch) for branch in branches]
    return [
        {
            "name": name,
            **_columns(points),
            "broken": [step for step, value in points if value is None],
            "branches": [_columns(other[name]) for other in left if name in other],
        }
        for name, points in sorted(_series(rows).items(), key=lambda pair: _rank(pair[0]))
    ]


def _series(rows: Iterable[Row]) -> dict[str, list[Point]]:
    series: dict[str, list[Point]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in _NOT_METRICS:
                series.setdefault(name, []).append((float(row["step"]), _finite(value)))
    return series


def _columns(points: Sequence[Point]) -> dict[str, list[float] | list[float | None]]:
    thin = thinned(points)
    return {"steps": [step for step, _ in thin], "values": [value for _, value in thin]}


def _rank(name: str) -> tuple[int, str]:
    """What is to be looked at first, and what last."""
    if name in _LAST:
        return len(_FIRST) + 1 + _LAST.index(name), ""
    places = [place for place, start in enumerate(_FIRST) if name.startswith(start)]
    return (places[0] if places else len(_FIRST)), name


def thinned(points: Sequence[Point], most: int = MAX_POINTS) -> list[Point]:
    """At most `most` points: the ends, of every bucket the lowest and the highest, a gap where one is broken."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(3 * (len(points) - 2) / (most - 2))
    kept: list[Point] = [points[0]]
    for start in range(1, len(points) - 1, size):
        bucket = points[start : min(start + size, len(points) - 1)]
        whole = [(value, at) for at, (_, value) in enumerate(bucket) if value is not None]
        gap = next((at for at, (_, value) in enumerate(bucket) if value is None), None)
        chosen = {min(whole)[1], max(whole)[1]} if whole else set()
        kept += [bucket[at] for at in sorted(chosen | ({gap} if gap is not None else set()))]
    return [*kept, points[-1]]


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
