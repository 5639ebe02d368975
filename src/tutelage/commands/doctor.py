"""`tutelage doctor`: what this machine can do."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tutelage.commands.common import examples

EXAMPLES = examples("tutelage doctor", "tutelage doctor --json")
_STYLES = {"good": ("✓", "green"), "note": ("·", "cyan"), "warning": ("!", "yellow"), "bad": ("✗", "bold red")}


def command(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Look at this machine and say what that means for the quickstart; takes a few seconds."""
    from tutelage.verification.machine import examine

    seen = examine()
    if as_json:
        typer.echo(json.dumps([vars(one) for one in seen], indent=2))
        return
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in seen:
        sign, style = _STYLES[one.state]
        cell = Text(one.found)
        if one.meaning:
            cell.append(f"\n{one.meaning}", "dim" if one.state in ("good", "note") else style)
        table.add_row(Text(sign, style), Text(one.name, "bold"), cell)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    console.print(table)
    if any(one.state == "bad" for one in seen):
        raise typer.Exit(1)
