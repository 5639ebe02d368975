"""What commands share: examples in help, errors without a traceback, recipes by name, tables."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tutelage.errors import RecipeError, TutelageError
from tutelage.run.stage import StageSpec
from tutelage.run.visible import visible
from tutelage.run.words import did_you_mean

P = ParamSpec("P")
INTERRUPTED = 130  # what a shell reports for a program stopped by Ctrl-C


def examples(*lines: str) -> str:
    """Lines for the end of a command's help."""
    return "\n".join(["[bold]Examples[/bold]", *(f"  {line.replace('[', chr(92) + '[')}" for line in lines)])


def stages() -> dict[str, StageSpec]:
    """The dictionary of stages, imported only when a command needs it."""
    from tutelage.stages import STAGES

    return STAGES


def plainly(function: Callable[P, None]) -> Callable[P, None]:
    """Print a TutelageError as `error: …` and `→ hint`, exit 2; exit 130 on Ctrl-C."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except TutelageError as error:
            print_error(error)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(INTERRUPTED) from error

    return wrapped


def print_error(error: TutelageError) -> None:
    """Message and next action, in colour, on stderr."""
    console = Console(stderr=True)
    console.print(Text("error: ", "bold red") + Text(visible(error.message)), soft_wrap=True)
    if error.hint:
        console.print(Text("  → ", "cyan") + Text(visible(error.hint)), soft_wrap=True)


def recipe_folders() -> list[Path]:
    """Where recipes are looked for by name: here, and in a checkout of the project."""
    return [Path("recipes"), Path(__file__).resolve().parents[3] / "recipes"]


def find_recipe(name: str) -> Path:
    """A recipe by its path, or by the name of a file in recipes/. Raises RecipeError naming the nearest."""
    if Path(name).is_file():
        return Path(name)
    for folder in recipe_folders():
        for candidate in (folder / name, folder / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    known = sorted({path.stem for folder in recipe_folders() for path in folder.glob("*.yaml")})
    raise RecipeError(
        f"there is no recipe {name!r}; {did_you_mean(Path(name).stem, known)}", hint="give a path or a name"
    )


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table on stdout; a log (no terminal) gets its rows whole."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file or a pipe has no width to fold rows to
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    console.print(table)
