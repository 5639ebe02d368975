"""Draws the pictures of healthy runs in docs/images from the journals of a finished run.

.venv/bin/python docs/figures/from_run.py runs/quickstart
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tutelage.evaluation.report.charts import CHARTS
from tutelage.evaluation.report.curves import CHART_STYLE, HEIGHT, WIDTH, Chart, Line, Point, line_chart
from tutelage.evaluation.report.svg import document, standalone, tag
from tutelage.run.journal import read_journal

IMAGES = Path(__file__).resolve().parents[1] / "images"
STAGES = ("reward", "ppo", "grpo", "rloo", "dpo")
STYLE = CHART_STYLE + ".title { fill: var(--ink); font-weight: 600; }"
COLUMNS, GAP, HEADING = 2, 16.0, 20.0
MORE = {
    "reward": (
        ("Calibration error (ECE)", (("validation/ece", "validation"),)),
        ("Margin, chosen − rejected", (("margin", "training"), ("validation/margin", "validation"))),
    ),
    "ppo": (("Explained variance of the critic", (("val/explained_variance", "critic"),)),
            ("Tokens a reply", (("val/length", "length"),))),
}  # fmt: skip


def charts(stage: str, rows: Sequence[dict[str, object]]) -> list[Chart]:
    """The stage's charts of the report and some more, as far as the journal has values."""
    found = []
    for title, metrics in (*CHARTS.get(stage, ()), *MORE.get(stage, ())):
        lines = [Line(label, metric, series(rows, metric)) for metric, label in metrics]
        lines = [line for line in lines if len(line.points) >= 2]
        if lines:
            found.append(Chart(title, lines))
    return found


def series(rows: Sequence[dict[str, object]], metric: str) -> list[Point]:
    """A metric's values by step."""
    return [(float(str(row["step"])), float(str(row[metric]))) for row in rows if metric in row]


def grid(title: str, pictures: Sequence[Chart]) -> str:
    """Several charts in one file, two a row, each under its title."""
    parts = []
    for place, chart in enumerate(pictures):
        x, y = (place % COLUMNS) * (WIDTH + GAP), (place // COLUMNS) * (HEIGHT + HEADING + GAP)
        parts.append(tag("text", text=chart.title, x=x + 2, y=y + 13, cls="title"))
        parts.append(line_chart(chart).replace("<svg ", f'<svg x="{x:.0f}" y="{y + HEADING:.0f}" ', 1))
    rows = -(-len(pictures) // COLUMNS)
    width, height = COLUMNS * WIDTH + (COLUMNS - 1) * GAP, rows * (HEIGHT + HEADING + GAP)
    words = "; ".join(chart.title for chart in pictures)
    return standalone(document(width, height, title, f"Curves over the steps: {words}.", *parts), STYLE)


def main() -> None:
    """One picture for every stage of the run that has a journal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--stage", nargs="*", default=STAGES, help="names of stages in the run")
    chosen = parser.parse_args()
    for stage in chosen.stage:
        journal = chosen.run / stage / "journal.jsonl"
        if journal.exists():
            path = IMAGES / f"run-{stage}.svg"
            path.write_text(grid(f"A run of {stage}", charts(stage, read_journal(journal))), encoding="utf-8")
            print(f"written: {path}")


if __name__ == "__main__":
    main()
