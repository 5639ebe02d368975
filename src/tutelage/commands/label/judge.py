"""`tutelage label judge`: a model judges the items that people judge."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tutelage.commands.common import examples
from tutelage.commands.label.common import RunArgument, StoreOption, TaskOption, folder_of, labels_of, newest_task

if TYPE_CHECKING:
    from tutelage.run.stage import StageRun
    from tutelage.stages.constitutional.writers import Writer

EXAMPLES = examples(
    "tutelage label judge quickstart --model instruct                        a model of the run",
    "tutelage label judge quickstart --url http://127.0.0.1:8000/v1 --model NAME  a server",
)


def command(
    run: RunArgument,
    model: Annotated[str, typer.Option(help="A stage of the run, a model's folder, or the name a server gives it.")],
    url: Annotated[str | None, typer.Option(help="A server of the OpenAI protocol.")] = None,
    question: Annotated[str | None, typer.Option(help="What the judge is asked about two replies.")] = None,
    name: Annotated[str | None, typer.Option(help="The annotator's name; by default the model's.")] = None,
    votes: Annotated[int, typer.Option(min=1, help="Of a server: answers asked for, in each order.")] = 4,
    limit: Annotated[int | None, typer.Option(min=1, help="Judge so many items at most.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what a server draws.")] = 0,
    task: TaskOption = None,
    store: StoreOption = None,
) -> None:
    """Judge every pair of replies in both orders; labels keep the probabilities. Nothing is judged twice."""
    from tutelage.run.journal import Journal
    from tutelage.run.progress import Terminal
    from tutelage.run.stage import StageRun
    from tutelage.stages.labelling.ai_judge import QUESTION, judge_items

    folder = folder_of(run)
    terminal = Terminal(Console(stderr=True))
    with labels_of(run, store) as labels, tempfile.TemporaryDirectory(prefix="tutelage-judge-") as place:
        own = newest_task(labels, task, run)

        def lot(number: int) -> StageRun:
            scratch = Path(place) / str(number)
            return StageRun("judge", seed, scratch, scratch, Journal(scratch / "journal.jsonl"), terminal.progress)

        judge = _open(folder, model, url)
        who = name or f"judge:{judge.name}"
        judged, silent = judge_items(labels, own, judge, who, question or QUESTION, votes, lot, limit)
    typer.echo(f"{own}: {judged} items judged by {who}" + (f", {silent} without an answer" if silent else ""))
    typer.echo(f"→ tutelage label stats {run}")


def _open(folder: Path, model: str, url: str | None) -> Writer:
    """A server, or a model of ours."""
    import torch

    from tutelage.errors import ArtifactError
    from tutelage.run.artifacts import Artifact, ArtifactType
    from tutelage.stages.configs import ServerSettings
    from tutelage.stages.constitutional.writers import ModelWriter, ServedWriter

    if url is not None:
        return ServedWriter(model, "", ServerSettings(url=url, model=model))
    places = [folder / Path(*model.split(".")), Path(model)]
    found = next((place for place in places if (place / "config.json").is_file()), None)
    if found is None:
        raise ArtifactError(
            f"--model {model}: neither a stage of {folder} nor a model's folder",
            hint="name a stage such as `instruct`, a folder with config.json, or give a server's --url",
        )
    return ModelWriter.open(Artifact(model, ArtifactType.MODEL, found, ""), torch.float32, max_slots=64)
