"""`tutelage bench`: ratios against peers, both sides measured here in one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tutelage.commands.common import examples, print_table

EXAMPLES = examples(
    "tutelage bench rlhf                          builds the peers' environment, runs every row",
    "tutelage bench rlhf --row generation --json rows.json",
)


def command(
    name: Annotated[str, typer.Argument(help="Which benchmark.", metavar="NAME")] = "rlhf",
    row: Annotated[list[str] | None, typer.Option(help="Only these rows.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Alternations of the two sides after one to warm up.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of both sides; with 1, processor time counts.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the rows.")] = None,
) -> None:
    """Run a benchmark against peers from PyPI, in an environment of their own that is built once; takes minutes."""
    from tutelage.verification.benchmarks import benchmark_rows, hardware, run_row

    typer.echo(f"{hardware()}, {threads} thread{'s' if threads > 1 else ''}")
    found = []
    for script in benchmark_rows(name, row or []):
        typer.echo(f"{script.stem} …")
        found += run_row(script, rounds, threads, typer.echo)
    if json_file is not None:
        json_file.write_text(json.dumps({"hardware": hardware(), "rows": found}, indent=2) + "\n", encoding="utf-8")
    print_table(
        ["work", "peer", "setting", "ours", "theirs", "unit", "ratio", "asked"],
        [
            [one["work"], one["peer"], one["setting"], f"{one['ours']:,.1f}", f"{one['theirs']:,.1f}", one["unit"],
             f"{one['ratio']:.2f}", f"≥ {one['asked']:g}"]
            for one in found
        ],
    )  # fmt: skip
