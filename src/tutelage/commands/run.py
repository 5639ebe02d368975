"""`tutelage run`: the whole graph of a recipe, or a part of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.commands.common import examples, find_recipe, print_table, stages

if TYPE_CHECKING:
    from tutelage.run.execute import Outcome
    from tutelage.run.graph import Graph, Selection
    from tutelage.run.progress import Terminal

EXAMPLES = examples(
    "tutelage run quickstart                       the whole lifecycle",
    "tutelage run my.yaml --dry-run                what would run, and why",
    "tutelage run my.yaml base.learning_rate=1e-3  change a setting of a stage",
    "tutelage run my.yaml --from sft               sft again, and all after it",
    "tutelage run my.yaml --only report            one stage, on inputs as they are",
)


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one in recipes/.", metavar="RECIPE")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: stage.key=value.", metavar="[KEY=VALUE]...")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Run only this stage (repeatable).")] = None,
    start: Annotated[
        list[str] | None, typer.Option("--from", help="Run this stage and all that depend on it (repeatable).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, and why; run nothing.")] = False,
    run_dir: Annotated[Path | None, typer.Option("--run-dir", help="The run's folder; runs/NAME by default.")] = None,
) -> None:
    """Run a recipe: skip what is up to date, go on where it was stopped, say why for the rest."""
    from tutelage.run.execute import run_recipe
    from tutelage.run.folder import check_owner, run_directory
    from tutelage.run.graph import build_graph, select
    from tutelage.run.progress import Terminal
    from tutelage.run.recipe import load_recipe

    specs = stages()
    loaded = load_recipe(find_recipe(recipe), specs, overrides or ())
    if dry_run:
        graph = build_graph(loaded, specs)
        directory = run_directory(loaded, run_dir)
        check_owner(directory, loaded)
        _print_plan(graph, directory, select(graph, only or (), start or ()))
        return
    terminal = Terminal()
    outcome = run_recipe(
        loaded,
        specs,
        run_dir=run_dir,
        only=only or (),
        start=start or (),
        progress=terminal.progress,
        say=terminal.say,
    )
    _say_where_to_look(terminal, outcome)


def _print_plan(graph: Graph, directory: Path, selection: Selection) -> None:
    from tutelage.run.status import survey

    rows = []
    for state in survey(graph, directory, selection):
        verdict = "up to date" if state.state == "done" else "would run"
        if not state.selected:
            verdict = "not selected" if verdict == "up to date" else "not selected, not up to date"
        rows.append([state.name, state.stage, ", ".join(state.inputs), verdict, state.reason])
    print_table(["stage", "type", "inputs", "", "reason"], rows)


def _say_where_to_look(terminal: Terminal, outcome: Outcome) -> None:
    from tutelage.run.artifacts import ArtifactType
    from tutelage.run.graph import artifact_name
    from tutelage.run.progress import format_seconds

    ran, skipped = len(outcome.ran), len(outcome.skipped)
    if ran:
        terminal.say(f"\n✓ {ran} ran, {skipped} up to date, {format_seconds(outcome.seconds)}")
    else:
        terminal.say(f"\n✓ everything is up to date ({skipped} stages)")
    made = [
        (type_, outcome.directory / artifact_name(stage, output).replace(".", "/"))
        for stage in outcome.graph.order
        for output, type_ in outcome.graph.outputs(stage).items()
    ]
    reports = [path for type_, path in made if type_ == ArtifactType.REPORT and path.exists()]
    models = [path for type_, path in made if type_ == ArtifactType.MODEL and path.exists()]
    if reports:
        terminal.say(f"  report   {reports[-1] / 'report.html'}")
    if models:
        terminal.say(f"  talk     tutelage chat {models[-1]}")
    terminal.say(f"  status   tutelage status {outcome.directory}")
    terminal.say(f"  lineage  tutelage lineage {outcome.directory}")
