"""Curves of any y against any x, as an SVG file. For curves over steps there is `evaluation.report.curves`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.evaluation.report.curves import CHART_STYLE, nice_ticks, tick_label
from tutelage.evaluation.report.svg import document, standalone, tag

Point = tuple[float, float]
WIDTH, HEIGHT = 500.0, 300.0
LEFT, TOP, BOTTOM, ROOM = 52.0, 30.0, 44.0, 132.0  # ROOM: right of the axes, for the labels
STYLE = CHART_STYLE + ".dashed { stroke-dasharray: 5 4; } .title { fill: var(--ink); font-weight: 600; }"


@dataclass(frozen=True)
class Series:
    """One curve; an empty label leaves it without a legend."""

    label: str
    points: Sequence[Point]
    colour: int = 0
    dashed: bool = False
    dots: bool = False


def plot(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> str:
    """The picture as the text of an SVG file."""
    axes = _Axes([point for one in series for point in one.points])
    parts = [tag("text", text=title, x=LEFT, y=16, cls="title"), *axes.draw(x_label, y_label)]
    for one in series:
        parts += _curve(axes, one)
    named = [one for one in series if one.label]
    for row, one in enumerate(named):
        parts += _legend(row, one)
    words = "; ".join(f"{one.label}: from {one.points[0][1]:.2f} to {one.points[-1][1]:.2f}" for one in named)
    return standalone(document(WIDTH, HEIGHT, title, f"{y_label} against {x_label}. {words}.", *parts), STYLE)


class _Axes:
    def __init__(self, points: Sequence[Point]) -> None:
        xs, ys = [x for x, _ in points], [y for _, y in points]
        self.x_ticks, self.y_ticks = _ticks(min(xs), max(xs)), _ticks(min(ys), max(ys))
        self.x_range = min(*xs, self.x_ticks[0]), max(*xs, self.x_ticks[-1])
        self.y_range = min(*ys, self.y_ticks[0]), max(*ys, self.y_ticks[-1])

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - ROOM)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def draw(self, x_label: str, y_label: str) -> list[str]:
        right, base, parts = WIDTH - ROOM, HEIGHT - BOTTOM, []
        for tick in self.y_ticks:
            y, words = self.y(tick), tick_label("", tick, self.y_ticks)
            parts.append(tag("line", cls="grid", x1=LEFT, x2=right, y1=y, y2=y))
            parts.append(tag("text", text=words, x=LEFT - 6, y=y + 4, text_anchor="end"))
        for tick in self.x_ticks:
            x, words = self.x(tick), tick_label("", tick, self.x_ticks)
            parts.append(tag("line", cls="grid", x1=x, x2=x, y1=TOP, y2=base))
            parts.append(tag("text", text=words, x=x, y=base + 15, text_anchor="middle"))
        parts.append(tag("text", text=x_label, x=(LEFT + right) / 2, y=HEIGHT - 8, text_anchor="middle"))
        middle = (TOP + base) / 2
        turned = f"rotate(-90 12 {middle:.0f})"
        parts.append(tag("text", text=y_label, x=12, y=middle, text_anchor="middle", transform=turned))
        return parts


def _ticks(low: float, high: float) -> list[float]:
    """About twice as many as on the report's small charts."""
    few = nice_ticks(low, (low + high) / 2)
    step = few[1] - few[0]
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _curve(axes: _Axes, one: Series) -> list[str]:
    path = "L".join(f"{axes.x(x):.1f} {axes.y(y):.1f}" for x, y in one.points)
    parts = [tag("path", cls=_line_class(one), d=f"M{path}")]
    if one.dots:
        parts += [tag("circle", cls=f"f{one.colour}", cx=axes.x(x), cy=axes.y(y), r=2.4) for x, y in one.points]
    return parts


def _legend(row: int, one: Series) -> list[str]:
    x, y = WIDTH - ROOM + 10, TOP + 8 + 18 * row
    line = tag("line", cls=_line_class(one), x1=x, x2=x + 16, y1=y, y2=y)
    return [line, tag("text", text=one.label, x=x + 20, y=y + 4)]


def _line_class(one: Series) -> str:
    return f"smooth s{one.colour}" + (" dashed" if one.dashed else "")
