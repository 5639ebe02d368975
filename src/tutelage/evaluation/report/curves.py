"""Line charts as SVG: raw values lightly, their smoothed course over them, the last value beside the line.

Usable for any picture of curves: `line_chart` gives a figure for a page that has `style.css`, and
`svg.standalone(line_chart(chart), CHART_STYLE)` a file that carries its own style.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from tutelage.evaluation.report.layered import spread
from tutelage.evaluation.report.svg import document, tag
from tutelage.evaluation.report.text import THIN, count, is_share, quantity, text_width

Point = tuple[float, float]

WIDTH, HEIGHT = 340.0, 176.0
LEFT, TOP, BOTTOM = 44.0, 12.0, 26.0
BUCKETS = 120
SMOOTH_FROM = 40  # fewer points than this are drawn as they are

CHART_STYLE = """
svg { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --ink: #1b1d21; --soft: #5a606b; --line: #e2e4e8; --bad: #b3261e;
  --c0: #2258c3; --c1: #b8500c; --c2: #0b7a68; --c3: #7a3fc4; }
@media (prefers-color-scheme: dark) { svg { --ink: #e8eaed; --soft: #a3a9b4; --line: #33373e; --bad: #ff8a80;
  --c0: #7ba7ff; --c1: #f0a05a; --c2: #4fc3ad; --c3: #bd97f5; } }
text { fill: var(--soft); } .grid { stroke: var(--line); } .end { font-weight: 600; }
.raw { fill: none; stroke-width: 1; } .faint { opacity: .35; } .smooth { fill: none; stroke-width: 1.8; }
.s0 { stroke: var(--c0); } .s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); } .s3 { stroke: var(--c3); }
.f0 { fill: var(--c0); } .f1 { fill: var(--c1); } .f2 { fill: var(--c2); } .f3 { fill: var(--c3); }
.broken { stroke: var(--bad); stroke-width: 1.6; fill: none; }
"""


@dataclass(frozen=True)
class Line:
    """A metric's values by step; `metric` decides the unit, `label` is what is written beside it."""

    label: str
    metric: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Chart:
    """A few lines on one scale; `across` is what is counted from left to right."""

    title: str
    lines: Sequence[Line]
    across: str = "step"


def broken(points: Sequence[Point]) -> list[Point]:
    """The points whose value is NaN or infinite."""
    return [point for point in points if not math.isfinite(point[1])]


def downsample(points: Sequence[Point], buckets: int = BUCKETS) -> list[Point]:
    """At most four points a bucket: first, least, greatest, last; no extreme and no non-finite value is lost."""
    if len(points) <= 4 * buckets:
        return list(points)
    kept: list[Point] = []
    for index in range(buckets):
        chunk = points[index * len(points) // buckets : (index + 1) * len(points) // buckets]
        good = [i for i, (_, value) in enumerate(chunk) if math.isfinite(value)]
        chosen = {0, len(chunk) - 1} | {i for i, (_, value) in enumerate(chunk) if not math.isfinite(value)}
        if good:
            chosen |= {min(good, key=lambda i: chunk[i][1]), max(good, key=lambda i: chunk[i][1])}
        kept += [chunk[i] for i in sorted(chosen)]
    return kept


def smooth(points: Sequence[Point]) -> list[Point]:
    """A centred mean over about a twentieth of the finite points, so that it does not lag behind a steep start.

    Its window narrows towards the start, and is cut off at the end.
    """
    good = [point for point in points if math.isfinite(point[1])]
    sums = [0.0, *accumulate(value for _, value in good)]
    reach = max(2, len(good) // 40)
    out = []
    for i, (step, _) in enumerate(good):
        half = min(reach, i)
        first, beyond = i - half, min(len(good), i + half + 1)
        out.append((step, (sums[beyond] - sums[first]) / (beyond - first)))
    return out


def line_chart(chart: Chart) -> str:
    """The chart as an SVG element; lines without any value are left out."""
    lines = [line for line in chart.lines if line.points]
    finite = [value for line in lines for _, value in line.points if math.isfinite(value)]
    steps = [step for line in lines for step, _ in line.points]
    assert steps, f"{chart.title}: a chart without values"
    # what stands right of the lines gets the room it needs
    words = [line.label for line in lines] if len(lines) > 1 else []
    room = 10 + max(46.0, *(text_width(word, 11) for word in words), 46.0)
    scale = _Scale((min(steps), max(steps)), min(finite, default=0.0), max(finite, default=1.0), WIDTH - room)
    parts = _axes(scale, lines[0].metric, chart.across)
    for index, line in enumerate(lines):
        parts += _curve(scale, line, index)
    parts += _ends(scale, lines)
    return document(WIDTH, HEIGHT, chart.title, _in_words(lines, chart.across), *parts, cls="chart")


class _Scale:
    def __init__(self, steps: Point, low: float, high: float, right: float) -> None:
        if high - low <= 1e-9 * max(abs(low), abs(high), 1e-3):  # a constant, but for rounding
            low, high = low - max(abs(low) * 0.1, 0.5), high + max(abs(high) * 0.1, 0.5)
        self.first, self.last, self.right = steps[0], max(steps[1], steps[0] + 1), right
        self.ticks = nice_ticks(low, high)
        self.low, self.high = min(low, self.ticks[0]), max(high, self.ticks[-1])

    def x(self, step: float) -> float:
        return LEFT + (step - self.first) / (self.last - self.first) * (self.right - LEFT)

    def y(self, value: float) -> float:
        return TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)


def nice_ticks(low: float, high: float) -> list[float]:
    """Two to six round numbers inside `[low, high]`, of step 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last <= first:
        return nice_ticks(low - step / 2, high + step / 2)
    return [index * step for index in range(first, last + 1)]


def tick_label(metric: str, tick: float, ticks: Sequence[float]) -> str:
    """A tick with as many decimals as the distance between ticks needs."""
    factor = 100 if is_share(metric) else 1
    step = factor * (ticks[1] - ticks[0])
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if decimals > 4 or abs(factor * tick) >= 1e6:
        return quantity(metric, tick)
    shown = f"{factor * tick:,.{decimals}f}".replace("-", "−")
    return f"{shown}{THIN}%" if is_share(metric) else shown


def _axes(scale: _Scale, metric: str, across: str) -> list[str]:
    right = scale.right
    parts = []
    for tick in scale.ticks:
        y = scale.y(tick)
        parts.append(tag("line", cls="grid", x1=LEFT, x2=right, y1=y, y2=y))
        parts.append(tag("text", text=tick_label(metric, tick, scale.ticks), x=LEFT - 6, y=y + 4, text_anchor="end"))
    base = HEIGHT - 8
    parts.append(tag("text", text=f"{across} {count(scale.first)}", x=LEFT, y=base))
    parts.append(tag("text", text=count(scale.last), x=right, y=base, text_anchor="end"))
    return parts


def _curve(scale: _Scale, line: Line, index: int) -> list[str]:
    good = [point for point in line.points if math.isfinite(point[1])]
    busy = len(good) >= SMOOTH_FROM
    style = f"s{index % 4}"
    parts = [tag("path", cls=f"raw {style}{' faint' if busy else ' smooth'}", d=_path(scale, downsample(line.points)))]
    if busy:
        parts.append(tag("path", cls=f"smooth {style}", d=_path(scale, downsample(smooth(line.points), 60))))
    elif len(good) <= 12:
        parts += [tag("circle", cls=f"f{index % 4}", cx=scale.x(s), cy=scale.y(v), r=2.2) for s, v in good]
    for step, value in broken(line.points)[:200]:
        x, y = scale.x(step), HEIGHT - BOTTOM if value == -math.inf else TOP
        parts.append(tag("path", cls="broken", d=f"M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6"))
    return parts


def _path(scale: _Scale, points: Sequence[Point]) -> str:
    """A path that is interrupted where values are not finite."""
    parts, pen = [], "M"
    for step, value in points:
        if math.isfinite(value):
            parts.append(f"{pen}{scale.x(step):.1f} {scale.y(value):.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(parts)


def _ends(scale: _Scale, lines: Sequence[Line]) -> list[str]:
    """The last value and its label right of every line, moved apart where they would overlap."""
    order, wanted = [], []
    for index, line in enumerate(lines):
        good = [value for _, value in line.points if math.isfinite(value)]
        order.append((index, line))
        wanted.append(scale.y(good[-1]) if good else TOP)
    ranked = sorted(range(len(order)), key=lambda i: wanted[i])
    several = len(lines) > 1
    size = 26.0 if several else 13.0
    placed = spread([wanted[i] for i in ranked], [size] * len(ranked), 2)
    shift = max(0.0, size / 2 + 2 - placed[0]) - max(0.0, placed[-1] + size / 2 - (HEIGHT - 14))
    parts, x = [], scale.right + 8
    for i, y in zip(ranked, (position + shift for position in placed), strict=True):
        index, line = order[i]
        last = quantity(line.metric, line.points[-1][1])
        fill = f"end f{index % 4}"
        parts.append(tag("text", text=last, x=x, y=y + (-1 if several else 4), cls=fill))
        if several:
            parts.append(tag("text", text=line.label, x=x, y=y + 12))
    return parts


def _in_words(lines: Sequence[Line], across: str) -> str:
    sentences = []
    for line in lines:
        first, last = line.points[0], line.points[-1]
        sentences.append(
            f"{line.label}: {quantity(line.metric, first[1])} at {across} {count(first[0])},"
            f" {quantity(line.metric, last[1])} at {across} {count(last[0])}"
            + (f", {len(broken(line.points))} values not finite" if broken(line.points) else "")
        )
    return ". ".join(sentences) + "."
