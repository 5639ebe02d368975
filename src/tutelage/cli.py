"""The command line. A command is a module of `tutelage.commands` and an entry of `COMMANDS`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Annotated

import typer

import tutelage
from tutelage.commands import (
    bench,
    chat,
    compare,
    complete,
    completions,
    doctor,
    import_model,
    label,
    lineage,
    masks,
    report,
    run,
    schema,
    serve,
    stages,
    status,
    verify,
)
from tutelage.commands.common import examples, plainly

COMMANDS: dict[str, ModuleType] = {
    "run": run,
    "status": status,
    "lineage": lineage,
    "report": report,
    "chat": chat,
    "complete": complete,
    "compare": compare,
    "serve": serve,
    "completions": completions,
    "masks": masks,
    "label": label,
    "import": import_model,
    "verify": verify,
    "bench": bench,
    "doctor": doctor,
    "stages": stages,
    "schema": schema,
}

EXAMPLES = examples(
    "tutelage run quickstart      raise a model, from raw documents to a report",
    "tutelage status quickstart   what is done, what is left, and why",
    "tutelage lineage quickstart  where every artifact came from",
    "tutelage stages              what a recipe can be made of",
    "tutelage COMMAND --help      more of each",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tutelage {tutelage.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Raise a language model: from raw text to an aligned, evaluated assistant, with one recipe and one command."""


def build_app() -> typer.Typer:
    """The Typer application with all commands."""
    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(epilog=EXAMPLES)(_root)
    _add(app, COMMANDS)
    return app


def _add(app: typer.Typer, commands: dict[str, ModuleType]) -> None:
    """Commands, and groups of commands: modules with `COMMANDS` of their own."""
    for name, module in commands.items():
        if hasattr(module, "COMMANDS"):
            group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help=module.HELP, epilog=module.EXAMPLES)
            _add(group, module.COMMANDS)
            app.add_typer(group, name=name)
        else:
            app.command(name, epilog=module.EXAMPLES)(plainly(module.command))


def main() -> None:
    """The console script `tutelage`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ✓ must not stop a run
    build_app()()
