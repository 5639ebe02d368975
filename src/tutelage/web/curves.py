"""Curves for the eye: of many points those that show every peak, NaN as a gap that is counted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

MAX_POINTS = 600  # of one curve; a screen has not many more pixels
_NOT_METRICS = ("step", "time")

Point = tuple[float, float | None]


def picked(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """[{name, steps, values, broken}] of a journal; `broken` counts values that are no finite number."""
    series: dict[str, list[Point]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in _NOT_METRICS:
                series.setdefault(name, []).append((float(row["step"]), _finite(value)))
    return [
        {
            "name": name,
            "steps": [step for step, _ in thin],
            "values": [value for _, value in thin],
            "broken": sum(value is None for _, value in points),
        }
        for name, points in series.items()
        if len(points) > 1 and (thin := thinned(points))
    ]


def thinned(points: Sequence[Point], most: int = MAX_POINTS) -> list[Point]:
    """At most `most` points: of every bucket the lowest and the highest, and a gap where one is broken."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(3 * len(points) / most)
    kept: list[Point] = []
    for start in range(0, len(points), size):
        bucket = points[start : start + size]
        whole = [(value, at) for at, (_, value) in enumerate(bucket) if value is not None]
        gap = next((at for at, (_, value) in enumerate(bucket) if value is None), None)
        chosen = {min(whole)[1], max(whole)[1]} if whole else set()
        kept += [bucket[at] for at in sorted(chosen | ({gap} if gap is not None else set()))]
    return kept


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
