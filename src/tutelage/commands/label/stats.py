"""`tutelage label stats`: how far annotators agree, which models win, and whether the screen's order decides."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.commands.common import examples, print_table
from tutelage.commands.label.common import RunArgument, StoreOption, TaskOption, labels_of, newest_task

if TYPE_CHECKING:
    from tutelage.labels.summary import Board, Statistics

EXAMPLES = examples("tutelage label stats quickstart", "tutelage label stats quickstart --json")


def command(
    run: RunArgument,
    task: TaskOption = None,
    store: StoreOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; what is undefined is null.")] = False,
) -> None:
    """Progress, agreement, constancy, position bias, and the board of models with intervals."""
    with labels_of(run, store) as labels:
        own = newest_task(labels, task, run)
        stats, board = labels.stats(own), labels.board(own)
    if as_json:
        standings = [{**asdict(row), "expected": row.expected} for row in board.standings]
        found = {"task": own, **asdict(stats), "board": {"standings": standings, "groups": board.groups}}
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False))
        return
    _show_progress(own, stats)
    _show_agreement(stats)
    _show_board(board)


def _number(value: float | None, form: str = ".3f") -> str:
    return "undefined" if value is None else format(value, form)


def _show_progress(task: str, stats: Statistics) -> None:
    now = stats.progress
    share = f" ({now.labels / now.wanted:.0%})" if now.wanted else ""
    typer.echo(f"{task}: {now.labels} of {now.wanted} labels{share}, {now.items} items, {now.open} open, ", nl=False)
    typer.echo(f"{now.skipped} skipped, {now.repeats} repeats, {stats.all_bad} all bad, {now.judged} by models")
    if stats.annotators:
        typer.echo("")
        print_table(
            ["annotator", "", "labels", "repeats", "median seconds"],
            [
                [one.name, one.kind, str(one.labels), str(one.repeats), _number(one.median_seconds, ".1f")]
                for one in stats.annotators
            ],
        )


def _show_agreement(stats: Statistics) -> None:
    bias = stats.position
    rows = [
        ["Krippendorff's α, rankings", _number(stats.alpha_rankings), "ordinal, over pairs of replies"],
        ["Krippendorff's α, good and bad", _number(stats.alpha_ratings), "ordinal"],
    ]
    flags = {flag: value for flag, value in stats.alpha_flags.items() if value is not None}
    rows += [[f"Krippendorff's α, {flag}", _number(value), "nominal"] for flag, value in flags.items()]
    rows += [
        [f"{one.first} and {one.second}", f"κ {_number(one.kappa)}  τ-b {_number(one.tau_b)}", f"{one.items} items"]
        for one in stats.pairs
    ]
    rows += [
        [f"{one.annotator} with themselves", f"{one.same:.0%}  τ-b {_number(one.tau_b)}", f"{one.items} items again"]
        for one in stats.self_agreement
    ]
    rows.append(["ties", _number(stats.ties, ".1%"), "of pairs of replies"])
    told = "nothing to test" if bias.share is None else _bias(asdict(bias))
    rows.append(["first shown wins", _number(bias.share, ".1%"), told])
    typer.echo("")
    print_table(["agreement", "", ""], rows)


def _bias(bias: dict[str, Any]) -> str:
    return f"{bias['ci_low']:.1%} to {bias['ci_high']:.1%}, n = {bias['n']}, p = {bias['p_value']:.2g} against ½"


def _show_board(board: Board) -> None:
    if not board.standings:
        return
    rows = [
        [
            row.model or "(unnamed)",
            f"{row.strength:+.2f}",
            "{:+.2f} to {:+.2f}".format(*row.interval) if row.interval else "one item tells none",
            f"{row.expected:.0%}",
            f"{row.wins:g} of {row.games:g}",
        ]
        for row in board.standings
    ]
    typer.echo("")
    print_table(["model", "strength", "95 %", "beats the average", "wins"], rows)
    if len(board.groups) > 1:
        parts = "; ".join(", ".join(name or "(unnamed)" for name in group) for group in board.groups)
        typer.echo(f"! no comparison connects these models, so their strengths cannot be compared: {parts}")
