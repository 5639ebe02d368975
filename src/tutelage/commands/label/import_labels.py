"""`tutelage label import`: replies to be ranked, or labels that were made elsewhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.commands.common import examples, stages
from tutelage.commands.label.common import RunArgument, StoreOption, folder_of, labels_of

if TYPE_CHECKING:
    from tutelage.labels.intake import Taken
    from tutelage.labels.service import Labels

EXAMPLES = examples(
    "tutelage label import quickstart replies             items: the replies of a `sample` stage",
    "tutelage label import quickstart labels.jsonl        rankings, pairs, verdicts; items that are new are made",
    "tutelage label import . answers.csv --annotator ada  a folder of its own, without a run",
)


class Policy(StrEnum):
    """What to do at a row that cannot be used."""

    SKIP = "skip"
    STOP = "stop"


def command(
    run: RunArgument,
    source: Annotated[str, typer.Argument(help="A stage that gives Completions, or a file or folder of rows.")],
    task: Annotated[
        str | None, typer.Option(help="Task to put them in; by default the newest, else a new one.")
    ] = None,
    annotator: Annotated[str, typer.Option(help="Who judged, where a row does not say.")] = "imported",
    guideline: Annotated[Path | None, typer.Option(help="A text file that annotators are shown.")] = None,
    overlap: Annotated[int, typer.Option(min=1, help="How many people are to judge each new item.")] = 1,
    on_problem: Annotated[Policy, typer.Option(help="At a row that cannot be used: skip it, or stop.")] = Policy.STOP,
    store: StoreOption = None,
) -> None:
    """Put replies in as items to be ranked, and rankings, pairs and verdicts as labels.

    Twice is once: the same replies are one item, and a label changes only if it says something else.
    """
    folder = folder_of(run)
    rows, found = _rows(folder, source, annotator, on_problem)
    with labels_of(run, store) as labels:
        names = labels.tasks()
        own = task or (names[-1] if names and found is None else found or "labels")
        if own not in names:
            labels.make_task(own)
        if guideline is not None:
            labels.set_guideline(own, _text_of(guideline))
        items, new = _put(labels, own, rows, overlap)
        progress = labels.progress(own)
    typer.echo(
        f"{own}: {items} new items, {new} new labels; now {progress.items} items, {progress.labels} labels of "
        f"{progress.annotators} people, {progress.judged} of models"
    )


def _rows(folder: Path, source: str, annotator: str, policy: Policy) -> tuple[list[Taken], str | None]:
    """All rows, read and checked before anything is stored; and the stage that they come from, if they do."""
    from io import BytesIO

    from tutelage.labels.intake import FORMATS, taken_from
    from tutelage.sources.files import expand
    from tutelage.sources.rows import ProblemLog

    stage = _completions(folder, source)
    log = ProblemLog(BytesIO(), policy.value)
    rows = list(taken_from(expand(str(stage or source)), annotator, log))
    for problem in log.first if policy is Policy.SKIP else ():
        typer.echo(f"! {problem.file}:{problem.line}: {problem.reason} → {problem.mend}", err=True)
    if refused := log.counts.total():
        typer.echo(f"! {refused} of {refused + len(rows)} rows were refused", err=True)
    log.require(len(rows), source, "accepted: " + "".join(f"\n    {one.name}: {one.example}" for one in FORMATS))
    return rows, source if stage is not None else None


def _completions(folder: Path, source: str) -> Path | None:
    """The file of a stage of the run; None if the source is a path. NotFoundError names the stages that would do."""
    from tutelage.errors import NotFoundError
    from tutelage.run.folder import saved_recipe
    from tutelage.run.words import did_you_mean

    if Path(source).exists() or any(sign in source for sign in "*?~$"):
        return None
    path = folder / Path(*source.split(".")) / "completions.jsonl"
    if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
        return path
    fitting = []
    if (folder / "run.json").exists():
        recipe = saved_recipe(folder, stages())
        fitting = [
            name if not output else f"{name}.{output}"
            for name, config in recipe.stages.items()
            for output, kind in stages()[config.stage].outputs.items()
            if kind == "Completions" and (folder / name / output / "completions.jsonl").is_file()
        ]
    raise NotFoundError(
        f"{source}: neither a file nor a finished stage of {folder} that gives Completions; "
        f"{did_you_mean(source, fitting)}",
        hint="name a stage such as one of `sample`, or a file of rows",
    )


def _put(labels: Labels, task: str, rows: list[Taken], overlap: int) -> tuple[int, int]:
    from dataclasses import replace

    known = {item.key: item for item in labels.items(task)}
    fresh = [replace(row.item, annotators_wanted=overlap) for row in rows if row.item.key not in known]
    items = labels.add_items(task, fresh)
    new = 0
    with typer.progressbar(rows, label="labels", file=None, hidden=len(rows) < 1000) as bar:
        for row in bar:
            if row.verdict is not None:
                new += labels.record(
                    task, row.item, row.annotator, row.verdict, shown=row.shown, kind=row.kind, repeat=row.repeat
                )
    return items, new


def _text_of(path: Path) -> str:
    from tutelage.errors import DataError

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--guideline {path}: {error}", hint="give a text file in UTF-8") from error
