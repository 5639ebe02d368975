"""Which of a configuration's values are names of other stages' artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from tutelage.run.artifacts import ArtifactType, Takes
from tutelage.run.config import StageConfig


def references(config: StageConfig) -> Iterator[tuple[str, str, Takes]]:
    """All references of a config as (field path, reference, accepted types), in the order of its fields."""
    yield from _in_model(config, "")


def _in_model(model: BaseModel, prefix: str) -> Iterator[tuple[str, str, Takes]]:
    for name, info in type(model).model_fields.items():
        own = next((item for item in info.metadata if isinstance(item, Takes)), None)
        yield from _in_value(getattr(model, name), own or _takes(info.annotation), f"{prefix}{name}")


def _in_value(value: Any, takes: Takes | None, path: str) -> Iterator[tuple[str, str, Takes]]:
    if isinstance(value, BaseModel):
        yield from _in_model(value, f"{path}.")
    elif isinstance(value, str) and takes is not None:
        yield path, value, takes
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _in_value(item, takes, f"{path}.{index}")
    elif isinstance(value, dict):
        for label, item in value.items():
            yield from _in_value(item, takes, f"{path}.{label}")


def _takes(annotation: Any) -> Takes | None:
    """The `Takes` anywhere inside `X`, `list[X]`, `dict[str, X]`, `X | None`."""
    if get_origin(annotation) is Annotated:
        return next((item for item in annotation.__metadata__ if isinstance(item, Takes)), None)
    return next((found for argument in get_args(annotation) if (found := _takes(argument))), None)


def accepted_types(config: type[StageConfig]) -> dict[str, tuple[ArtifactType, ...]]:
    """The types that each reference field of a config accepts."""
    found = {}
    for name, info in config.model_fields.items():
        own = next((item for item in info.metadata if isinstance(item, Takes)), None)
        takes = own or _takes(info.annotation)
        if takes is not None:
            found[name] = takes.types
    return found
