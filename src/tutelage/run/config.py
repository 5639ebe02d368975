"""The base of every stage's typed configuration. Imports nothing heavy."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A frozen settings object that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StageConfig(Strict):
    """What every stage can be told. Fields annotated with an `…Input` type name other stages' artifacts.

    A field may also be `list[…Input]` or `dict[str, …Input]` (label → artifact), and any of them `| None`.
    """

    stage: str
    seed: int | None = None  # None: derived from the recipe's seed and the stage's name
