"""The base of every stage's typed configuration. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

PACKAGE = "package:"  # begins the path of a file that comes with the code, wherever that is installed


class Strict(BaseModel):
    """A frozen settings object that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StageConfig(Strict):
    """What every stage can be told. Fields annotated with an `…Input` type name other stages' artifacts.

    A field may also be `list[…Input]` or `dict[str, …Input]` (label → artifact), and any of them `| None`.
    """

    stage: str
    seed: int | str | None = None  # None: derived from the recipe's seed and the stage's name; a stage's name: its seed


def expanded(path: str) -> Path:
    """A path as a recipe writes it, with `~` and environment variables replaced; what is unknown stays as it is.

    `package:constitutions/default.yaml` is a file that comes with the code.
    """
    if path.startswith(PACKAGE):
        return Path(__file__).parents[1] / path.removeprefix(PACKAGE)
    return Path(os.path.expanduser(os.path.expandvars(path)))
