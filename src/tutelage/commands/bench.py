"""`tutelage bench`: ratios against peers, both sides measured here in one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tutelage.commands.common import examples, print_table

EXAMPLES = examples(
    "tutelage bench rlhf                          builds the peers' environment, runs every row",
    "tutelage bench rlhf --row dpo --row grpo --json rows.json",
    "tutelage bench serve --row overhead          the server: what HTTP costs",
    "tutelage bench rlhf --quick                  shows that every row works; its ratios say nothing",
)


def command(
    name: Annotated[str, typer.Argument(help="Which benchmark.", metavar="NAME")] = "rlhf",
    row: Annotated[list[str] | None, typer.Option(help="Only these rows.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Alternations of the two sides after one to warm up.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of both sides; with 1, processor time counts.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Little of everything, to show that it works.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the rows.")] = None,
) -> None:
    """Run a benchmark against peers from PyPI, in an environment of their own that is built once; takes minutes."""
    from tutelage.verification.benchmarks import RowError, benchmark_rows, hardware, run_row

    began = hardware()
    typer.echo(f"{began}, {threads} thread{'s' if threads > 1 else ''}")
    found: list[dict[str, Any]] = []
    failures: list[RowError] = []
    for script in benchmark_rows(name, row or []):
        typer.echo(f"{script.stem} …")
        try:
            found += run_row(script, rounds, threads, typer.echo, quick=quick)
        except RowError as failure:
            found += failure.rows
            failures.append(failure)
    if json_file is not None:
        settings = {"rounds": rounds, "threads": threads, "quick": quick}
        content = {"hardware": began, "settings": settings, "rows": found}
        json_file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print_table(
        ["work", "peer", "setting", "ours", "theirs", "unit", "ratio", "asked", "apart"],
        [
            [one["work"], one["peer"], one["setting"], _short(one["ours"]), _short(one["theirs"]), one["unit"],
             f"{one['ratio']:.2f}", f"≥ {one['asked']:g}", _apart(one)]
            for one in found
        ],
    )  # fmt: skip
    if failures:
        raise failures[0]


def _apart(row: dict[str, Any]) -> str:
    """The largest gap between losses that both sides have on the same batches."""
    return f"{max(row['apart'].values()):.2%}" if "apart" in row else "–"


def _short(rate: float) -> str:
    return f"{rate:,.1f}" if rate >= 10 else f"{rate:.3g}"
