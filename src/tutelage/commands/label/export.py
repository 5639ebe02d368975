"""`tutelage label export`: labels as preferences to train on, or as rankings."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tutelage.commands.common import examples
from tutelage.commands.label.common import RunArgument, StoreOption, TaskOption, labels_of, newest_task

EXAMPLES = examples(
    "tutelage label export quickstart --to preferences.jsonl",
    "tutelage label export quickstart --to rankings.jsonl --as rankings",
)


class Form(StrEnum):
    """What a row is."""

    PREFERENCES = "preferences"
    RANKINGS = "rankings"


class Who(StrEnum):
    """Whose labels."""

    PEOPLE = "people"
    MODELS = "models"
    ALL = "all"


def command(
    run: RunArgument,
    to: Annotated[Path, typer.Option(help="The file to write, as JSON lines.")],
    form: Annotated[
        Form, typer.Option("--as", help="Pairs and single replies, as reward, dpo and kto read them; or rankings.")
    ] = Form.PREFERENCES,
    by: Annotated[Who, typer.Option(help="Labels of people, of models that judge, or of all.")] = Who.PEOPLE,
    validation_share: Annotated[float, typer.Option(min=0, max=0.999, help="Share of the prompts held out.")] = 0.15,
    task: TaskOption = None,
    store: StoreOption = None,
) -> None:
    """Write the labels that stand. Preferences leave out ties, and second looks at an item; rankings have all."""
    from tutelage.errors import DataError
    from tutelage.labels.convert import by_prompt, preference_rows, ranking_rows
    from tutelage.sources.store import write_jsonl
    from tutelage.store.label_tables import PERSON

    with labels_of(run, store) as labels:
        own = newest_task(labels, task, run)
        found = [
            label
            for label in labels.labels(own)
            if by is Who.ALL or (label.annotator_kind == PERSON) == (by is Who.PEOPLE)
        ]
    if form is Form.RANKINGS:
        rows = list(ranking_rows(found))
    else:
        rows = list(preference_rows(found, by_prompt(validation_share)))
    if not rows:
        raise DataError(
            f"task {own}: {len(found)} labels by {by.value}, and nothing to write as {form.value}",
            hint=f"`tutelage label stats {run}` shows what there is; another --task or --by",
        )
    write_jsonl(to, rows)
    typer.echo(f"{to}: {len(rows)} rows of {len(found)} labels of {own}")
