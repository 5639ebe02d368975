"""Reading constitutions from files; what is wrong is named with file, line, principle, field and value."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutelage.constitutions.principles import Constitution, Principle
from tutelage.constitutions.rules import RULES
from tutelage.errors import DataError, RecipeError
from tutelage.run.strict_yaml import checked, from_yaml
from tutelage.run.words import describe, did_you_mean
from tutelage.run.yaml_text import YamlText

PAIRS = (("prompt", "edit_request"), ("critic", "revision"), ("critique", "revision"))
# Published requests carry the names of the turns around them, for a model that only continues text.
BEFORE = ("CritiqueRequest:", "Critique Request:", "RevisionRequest:", "Revision Request:")
AFTER = ("Critique:", "Revision:", "Options:")
SHAPES = (
    "YAML with `principles`, or JSON: {name: {prompt: [critique], edit_request: revision}}, "
    "[{critic: …, revision: …}] or a list of questions"
)
HINT = f"write {SHAPES}; rules: {', '.join(RULES)}; docs/constitutions.md has every field"


def read_constitution(paths: Sequence[Path]) -> dict[str, Principle]:
    """The principles of all files, by name, in their order. Raises DataError; a name in two files is one, too."""
    found: dict[str, Principle] = {}
    for path in paths:
        for name, principle in _read(path).items():
            if name in found:
                raise DataError(
                    f"{path}: principle {name}: an earlier file has a principle of this name",
                    hint="name it otherwise, or leave one of the two out",
                )
            found[name] = principle
    return found


def chosen(principles: dict[str, Principle], wanted: list[str] | None) -> dict[str, Principle]:
    """The principles of the names `wanted`, in that order; all of them for None. Raises RecipeError."""
    for name in wanted or []:
        if name not in principles:
            raise RecipeError(
                f"principles: there is no principle {name!r}; {did_you_mean(name, list(principles))}",
                hint=f"principles: {', '.join(principles)}",
            )
    return principles if wanted is None else {name: principles[name] for name in wanted}


def _read(path: Path) -> dict[str, Principle]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}", hint=f"name a file of principles: {SHAPES}") from error
    return (
        _from_json(text, path) if path.suffix == ".json" else from_yaml(text, str(path), Constitution, HINT).principles
    )


def _from_json(text: str, path: Path) -> dict[str, Principle]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}", hint="mend it, or write it as YAML") from error
    if isinstance(value, dict) and "principles" in value:
        return checked(YamlText(value), str(path), Constitution, HINT).principles
    if isinstance(value, dict) and isinstance(value.get("constitutions"), list):
        value = value["constitutions"]
    named = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    entries = {str(name) if isinstance(value, dict) else f"{path.stem}-{name + 1}": entry for name, entry in named}
    if not entries:
        raise DataError(f"{path}: no principles in {describe(value)}", hint=f"write {SHAPES}")
    return {name: _published(entry, f"{path}: principle {name}") for name, entry in entries.items()}


def _published(entry: Any, where: str) -> Principle:
    """A published principle: a pair of requests, or the question of a comparison."""
    if isinstance(entry, str):
        return Principle(question=_request(entry, where, "question"))
    for first, second in PAIRS:
        if isinstance(entry, dict) and first in entry and second in entry:
            return Principle(
                critique=_request(entry[first], where, first), revision=_request(entry[second], where, second)
            )
    raise DataError(f"{where}: {describe(entry)} is neither a pair of requests nor a question", hint=f"write {SHAPES}")


def _request(value: Any, where: str, field: str) -> str:
    """The words of a request, without the names of turns that may stand before and after them."""
    parts = value if isinstance(value, list) else [value]
    if not parts or not all(isinstance(part, str) for part in parts):
        raise DataError(f"{where}: {field}: expected text, got {describe(value)}", hint="write the request as text")
    words = " ".join(part.strip() for part in parts).strip()
    for mark in BEFORE:
        words = words.removeprefix(mark).strip()
    for mark in AFTER:
        words = words.removesuffix(mark).strip()
    if not words:
        raise DataError(f"{where}: {field}: the request is empty", hint="write what is to be criticised or revised")
    return words
