"""`tutelage lineage`: where a run's artifacts, or one model, came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tutelage.commands.common import examples

EXAMPLES = examples("tutelage lineage runs/quickstart", "tutelage lineage runs/quickstart/ppo --json")


def command(
    place: Annotated[
        str, typer.Argument(help="A run folder (or its name), or an artifact inside one.", metavar="RUN|MODEL")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Artifact ← stage ← inputs, back to the raw data, with fingerprints, seeds and metrics."""
    from tutelage.run.folder import find_run
    from tutelage.run.lineage import draw, lineage

    nodes = lineage(Path(place) if Path(place).exists() else find_run(place))
    if as_json:
        typer.echo(json.dumps([node.to_json() for node in nodes], indent=2))
    else:
        typer.echo("\n".join(draw(nodes)))
