"""What a stage is, and what it is handed while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.config import StageConfig
from tutelage.run.journal import Journal

# field name → the artifact it refers to; a list field gives "field.0", "field.1"…; a dict field gives "field.label"
Inputs = Mapping[str, Artifact]


class ProgressBar(Protocol):
    """A live bar: `advance(n, loss=…)` shows named values beside the rate and the time left."""

    def advance(self, amount: float = 1, **shown: str | float) -> None:
        """Move on by `amount`; keyword values are displayed."""


ProgressFactory = Callable[[str, float | None], AbstractContextManager[ProgressBar]]


@dataclass
class StageRun:
    """One execution of a stage.

    `directory` is beside the final place and renamed when the stage returns; a stage of several outputs writes each
    into `directory / output_name`. `scratch` survives a kill and is given back to the next attempt with the same
    fingerprint (checkpoints live there); it is deleted on publication. `metrics` end up in the manifest.
    `notes` are sentences for a person (warnings, what was dropped and why): printed and kept in the manifest.
    """

    name: str
    seed: int
    directory: Path
    scratch: Path
    journal: Journal
    progress: ProgressFactory
    threads: int = 1
    say: Callable[[str], None] = lambda sentence: None  # to whoever runs it, now; notes are for the end
    metrics: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StageSpec:
    """An entry of `STAGES`: typed config, typed outputs, one line of help.

    The code is `tutelage.stages.<name>.run(config, inputs, run) -> None`, imported only when the stage is run.
    `outputs` has the key "" for a stage with one output.
    """

    config: type[StageConfig]
    outputs: Mapping[str, ArtifactType]
    help: str
    records_time: bool = False  # the artifact holds wall-clock durations, so its bytes differ between equal runs
