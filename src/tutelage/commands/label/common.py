"""What the commands of `tutelage label` share: which store, which task, and options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.errors import NotFoundError

if TYPE_CHECKING:
    from tutelage.labels.service import Labels

RunArgument = Annotated[str, typer.Argument(help="A run folder or its recipe's name; any folder may keep labels.")]
StoreOption = Annotated[
    str | None,
    typer.Option(help="Another store than the folder's: postgresql://… (or the variable TUTELAGE_STORE)."),
]
TaskOption = Annotated[str | None, typer.Option(help="A task by its name; by default the newest.")]


@contextmanager
def labels_of(run: str, store: str | None) -> Iterator[Labels]:
    """The labels of a run, or of any folder."""
    from tutelage.labels.service import Labels
    from tutelage.store.engine import opened, store_url

    with opened(store or store_url(folder_of(run))) as found:
        yield Labels(found)


def folder_of(run: str) -> Path:
    """A run folder, or a folder that is none."""
    from tutelage.run.folder import find_run

    return Path(run) if Path(run).is_dir() else find_run(run)


def newest_task(labels: Labels, task: str | None, run: str) -> str:
    """The task of this name, or the newest one. NotFoundError when there is none at all."""
    names = labels.tasks()
    if task is None and not names:
        raise NotFoundError(
            f"{run}: nothing to label was put in yet", hint=f"tutelage label import {run} STAGE, or a file of replies"
        )
    return task or names[-1]
