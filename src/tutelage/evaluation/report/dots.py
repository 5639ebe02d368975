"""Dot plots: one small panel a task, one line a model, its value with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.evaluation.report.curves import nice_ticks, tick_label
from tutelage.evaluation.report.svg import document, tag
from tutelage.evaluation.report.text import interval, is_share, quantity, wrap

WIDTH, ROW = 340.0, 21.0
LEFT, RIGHT = 96.0, 62.0


@dataclass(frozen=True)
class Dot:
    """One model's value; `place` is the model's place in the run, which decides its colour."""

    label: str
    place: int
    value: float | None
    ci_low: float | None
    ci_high: float | None


def dot_plot(title: str, metric: str, dots: Sequence[Dot]) -> str:
    """A panel: proportions from 0 to 100 %, other metrics from zero to the greatest value."""
    ends = [v for dot in dots for v in (dot.value, dot.ci_low, dot.ci_high) if v is not None]
    ticks = [0.0, 0.5, 1.0] if is_share(metric) else nice_ticks(min(0.0, *ends, 0.0), max(0.0, *ends, 1e-6))
    low, high = min(ticks[0], *ends, ticks[0]), max(ticks[-1], *ends, ticks[-1])
    height = ROW * len(dots) + 22

    def x(value: float) -> float:
        return LEFT + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    parts = [_tick(x(tick), height, tick_label(metric, tick, ticks)) for tick in ticks]
    for row, dot in enumerate(dots):
        y = ROW * row + 12
        colour = dot.place % 6
        label = wrap(dot.label, LEFT - 10, 11.5, 1)[0]
        parts.append(tag("text", text=label, x=LEFT - 10, y=y + 4, text_anchor="end", cls="label"))
        if dot.value is None:
            parts.append(tag("text", text="not measured", x=LEFT + 4, y=y + 4))
            continue
        if dot.ci_low is not None and dot.ci_high is not None:
            parts.append(
                tag("line", cls=f"whisker m{colour}", x1=x(dot.ci_low), x2=x(dot.ci_high), y1=float(y), y2=float(y))
            )
        parts.append(tag("circle", cls=f"dot d{colour}", cx=x(dot.value), cy=float(y), r=4.5))
        parts.append(
            tag("text", text=quantity(metric, dot.value), x=WIDTH - 2, y=y + 4, text_anchor="end", cls="value")
        )
    return document(WIDTH, height, title, _in_words(metric, dots), *parts, cls="dots")


def _tick(x: float, height: float, label: str) -> str:
    line = tag("line", cls="grid", x1=x, x2=x, y1=2, y2=height - 18)
    return line + tag("text", text=label, x=x, y=height - 5, text_anchor="middle", cls="tick")


def _in_words(metric: str, dots: Sequence[Dot]) -> str:
    parts = []
    for dot in dots:
        between = interval(metric, dot.ci_low, dot.ci_high)
        parts.append(f"{dot.label} {quantity(metric, dot.value)}" + (f" ({between})" if between else ""))
    return ", ".join(parts) + "."
