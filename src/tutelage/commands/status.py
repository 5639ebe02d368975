"""`tutelage status`: what a run has done and what is left."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tutelage.commands.common import examples, print_table, stages

EXAMPLES = examples("tutelage status quickstart", "tutelage status runs/quickstart --json")


def command(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a recipe that was run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Every stage of a run: done, partial, stale (and why) or not run, with times and telling metrics."""
    from tutelage.run.folder import find_run, holder, saved_recipe
    from tutelage.run.graph import build_graph, select
    from tutelage.run.metrics import headline
    from tutelage.run.progress import format_seconds
    from tutelage.run.status import survey

    directory = find_run(run)
    specs = stages()
    graph = build_graph(saved_recipe(directory, specs), specs)
    pid = holder(directory)
    states = survey(graph, directory, select(graph))
    if as_json:
        rows = [
            {
                "stage": state.name,
                "type": state.stage,
                "state": state.state,
                "reason": state.reason,
                "seconds": state.manifest.seconds if state.manifest else None,
                "metrics": state.manifest.metrics if state.manifest else {},
            }
            for state in states
        ]
        typer.echo(json.dumps({"run": str(directory), "process": pid or None, "stages": rows}, indent=2))
        return
    table = [
        [
            state.name,
            state.stage,
            state.state,
            format_seconds(state.manifest.seconds) if state.manifest else "",
            state.reason or "  ".join(headline(state.manifest.metrics, 2) if state.manifest else []),
        ]
        for state in states
    ]
    print_table(["stage", "type", "state", "time", ""], table)
    if pid:
        typer.echo(f"running now: process {pid}")
