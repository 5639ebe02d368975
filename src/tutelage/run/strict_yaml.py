"""YAML of a known shape, read as strictly as a recipe: what is wrong is named with file, line, field and value."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from tutelage.errors import DataError, RecipeError
from tutelage.run.config import Strict
from tutelage.run.words import describe, dotted, explain
from tutelage.run.yaml_text import KeyPath, YamlText, parse_yaml

S = TypeVar("S", bound=Strict)


def read_yaml(path: Path, shape: type[S], hint: str) -> S:
    """A file as an object of this shape. Raises DataError with all that is wrong at once."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}", hint=hint) from error
    return from_yaml(text, str(path), shape, hint)


def from_yaml(text: str, source: str, shape: type[S], hint: str) -> S:
    """As `read_yaml`, from a text; `source` stands for the file in messages."""
    try:
        document = parse_yaml(text, source)
    except RecipeError as error:
        raise DataError(error.message, hint="mend the line") from error
    return checked(document, source, shape, hint)


def checked(document: YamlText, source: str, shape: type[S], hint: str) -> S:
    """A parsed document as an object of this shape. Raises DataError with all that is wrong at once."""
    if not isinstance(document.value, dict):
        raise DataError(f"{source}: expected a mapping, got {describe(document.value)}", hint=hint)
    try:
        return shape.model_validate(document.value)
    except ValidationError as error:
        problems = [f"{_where(document, source, at)}: {what}" for at, what in explain(error, shape, document.value)]
    if len(problems) == 1:
        raise DataError(problems[0], hint=hint)
    listed = "\n".join(f"  {problem}" for problem in problems)
    raise DataError(f"{source}: {len(problems)} problems\n{listed}", hint=hint)


def _where(document: YamlText, source: str, at: KeyPath) -> str:
    lines = document.lines
    line = next((lines[at[:length]] for length in range(len(at), 0, -1) if at[:length] in lines), None)
    return f"{source}{f':{line}' if line else ''}{f': {dotted(at)}' if at else ''}"
