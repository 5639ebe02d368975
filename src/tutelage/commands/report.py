"""`tutelage report`: the newest report of a run."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from tutelage.commands.common import examples
from tutelage.errors import ArtifactError

EXAMPLES = examples("tutelage report quickstart", "tutelage report runs/quickstart --open")


def command(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a recipe that was run.")],
    browse: Annotated[bool, typer.Option("--open", help="Open it in a browser too.")] = False,
) -> None:
    """Print the path of the newest report.html."""
    from tutelage.run.folder import find_run

    path = newest_report(find_run(run))
    typer.echo(path)
    if browse:
        webbrowser.open(path.resolve().as_uri())


def newest_report(directory: Path) -> Path:
    """The `report.html` of the stage that finished last. Raises ArtifactError when there is none."""
    from tutelage.run.lineage import published

    found = [
        directory / name / output.path
        for name, manifest in published(directory).items()
        for output in manifest.outputs
        if Path(output.path).name == "report.html"
    ]
    if not found:
        message = f"{directory} has no report yet"
        raise ArtifactError(message, hint=f"`tutelage status {directory}` shows what is left to run")
    return found[-1]
