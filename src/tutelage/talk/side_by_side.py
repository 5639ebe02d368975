"""A comparison on the screen: columns where there is room, one below the other where there is not."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from tutelage.talk.compare import Column, Prompt, Told
from tutelage.talk.text import visible

NARROWEST = 24  # characters a column; below that, replies are easier to read one below the other


def show(console: Console, columns: Sequence[Column], prompts: Sequence[Prompt]) -> None:
    """Print all replies; the models' words are shown as text, whatever they hold."""
    for one in columns:
        for note in one.notes:
            console.print(Text(f"{visible(one.name)}: {note}", "yellow"), soft_wrap=True)
    if console.width // (len(columns) + 1) - 3 >= NARROWEST:
        console.print(_table(columns, prompts))
    else:
        _stack(console, columns, prompts)


def _table(columns: Sequence[Column], prompts: Sequence[Prompt]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_lines=True, pad_edge=False, expand=True, header_style="bold")
    table.add_column("prompt", style="cyan", overflow="fold", ratio=1)
    for one in columns:
        table.add_column(Text(visible(one.name)), overflow="fold", ratio=1)
    for number, prompt in enumerate(prompts):
        table.add_row(Text(visible(prompt.text)), *(_reply(one.replies[number]) for one in columns))
    return table


def _stack(console: Console, columns: Sequence[Column], prompts: Sequence[Prompt]) -> None:
    for number, prompt in enumerate(prompts):
        console.print(Rule(style="dim"))
        console.print(Text(visible(prompt.text), "cyan"))
        for one in columns:
            console.print(Text(visible(one.name), "bold"))
            console.print(Padding(_reply(one.replies[number]), (0, 0, 0, 2)))


def _reply(told: Told) -> Text:
    if not told.text:
        return Text("(nothing)", "dim")
    return Text.assemble(visible(told.text), (" […]" if told.finish_reason == "length" else "", "dim"))
