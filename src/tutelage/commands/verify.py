"""`tutelage verify`: proofs about a finished run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tutelage.commands.common import examples, stages
from tutelage.errors import RecipeError

if TYPE_CHECKING:
    from tutelage.verification.finding import Finding

EXAMPLES = examples(
    "tutelage verify data quickstart             nothing was lost in curation",
    "tutelage verify export quickstart           models load again, tokens and logits agree",
    "tutelage verify resume quickstart --kills 5  killed runs end in the same bytes",
)
_STYLES = {"holds": ("✓", "green"), "fails": ("✗", "bold red"), "not checked": ("–", "yellow")}


class Check(StrEnum):
    """What can be proved."""

    RESUME = "resume"
    EXPORT = "export"
    DATA = "data"


def command(
    what: Annotated[Check, typer.Argument(help="What to prove.", metavar="resume|export|data")],
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a recipe that was run.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="resume: other settings of the small copy: stage.key=value.", metavar="[KEY=VALUE]..."),
    ] = None,
    kills: Annotated[int, typer.Option(min=1, help="resume: how often to kill it.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="resume: of the moments at which it is killed.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Prove that a run can be trusted; exit code 1 if something does not hold.

    data: documents in = kept + removed. export: models load again, with the same tokens and logits.
    resume: a small copy of the recipe, killed at random moments, ends in the same bytes as one never stopped.
    """
    from tutelage.run.folder import find_run

    if overrides and what != Check.RESUME:
        raise RecipeError(f"verify {what}: takes no settings ({overrides[0]})")
    directory = find_run(run)
    findings = list(_findings(what, directory, overrides or [], kills, seed))
    if as_json:
        typer.echo(json.dumps([vars(one) for one in findings], indent=2))
    else:
        _show(findings)
    if any(one.verdict == "fails" for one in findings):
        raise typer.Exit(1)


def _findings(what: Check, directory: Path, overrides: list[str], kills: int, seed: int) -> Iterator[Finding]:
    if what == Check.DATA:
        from tutelage.verification.data import verify_data

        yield from verify_data(directory)
    elif what == Check.EXPORT:
        from tutelage.verification.export import verify_export

        yield from verify_export(directory)
    else:
        from tutelage.verification.resume import verify_resume

        say = Console(stderr=True, highlight=False).out
        with tempfile.TemporaryDirectory(prefix="tutelage-verify-") as place:
            yield from verify_resume(
                directory, stages(), Path(place), kills=kills, seed=seed, overrides=overrides, say=say
            )


def _show(findings: list[Finding]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("", "of", "claim", ""):
        table.add_column(heading, overflow="fold")
    for one in findings:
        sign, style = _STYLES[one.verdict]
        detail = f"not checked: {one.detail}" if one.verdict == "not checked" else one.detail
        table.add_row(Text(sign, style), Text(one.subject), Text(one.claim), Text(detail, "dim"))
    console.print(table)
    counts = {verdict: sum(one.verdict == verdict for one in findings) for verdict in _STYLES}
    console.print(Text(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)))
