"""Validation errors in plain words: which key, which value, what was expected, and the nearest name."""

from __future__ import annotations

import difflib
import types
from collections.abc import Collection, Iterator
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from tutelage.run.yaml_text import KeyPath

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "dict": "a mapping of keys to values",
    "model": "a mapping of keys to values",
    "path": "a path",
    "none": "nothing (null)",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "≥"),
    "greater_than": ("gt", ">"),
    "less_than_equal": ("le", "≤"),
    "less_than": ("lt", "<"),
    "multiple_of": ("multiple_of", "a multiple of"),
}


def dotted(path: KeyPath) -> str:
    """`("stages", "base", 0)` as `stages.base.0`."""
    return ".".join(str(part) for part in path)


def did_you_mean(word: str, known: Collection[str]) -> str:
    """`did you mean X?`, or the list of known names when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(known)}" if known else "nothing is known here"


def describe(value: Any) -> str:
    """A value and, where it helps, its type, as a person would say it."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) <= 60 else f"the text {value[:57]!r}…"
    if isinstance(value, dict):
        return "a mapping" + (f" with the keys {', '.join(map(str, value))}" if value else " with no keys")
    return f"a list of {len(value)}" if isinstance(value, list) else repr(value)


def explain(error: ValidationError, model: type[BaseModel], value: Any) -> list[tuple[KeyPath, str]]:
    """All problems of one validation as (key path below the model, sentence), branches of a union put together."""
    found: dict[KeyPath, list[str]] = {}
    for item in error.errors(include_url=False):
        path = real_path(item["loc"], item["type"], value)
        found.setdefault(path, []).append(_sentence(dict(item), model, path))
    return [(path, _join(sentences)) for path, sentences in found.items()]


def _join(sentences: list[str]) -> str:
    unique = list(dict.fromkeys(sentences))
    expected = [s.removeprefix("expected ").split(", got ")[0] for s in unique if s.startswith("expected ")]
    if len(unique) > 1 and len(expected) == len(unique):
        return f"expected {' or '.join(dict.fromkeys(expected))}, got {unique[0].split(', got ', 1)[1]}"
    return "; ".join(unique)


def real_path(location: tuple[int | str, ...], kind: str, value: Any) -> KeyPath:
    """Drop the names that pydantic puts in for the branches of a union: they are not in the file."""
    path: list[int | str] = []
    for index, part in enumerate(location):
        known, child = _child(value, part)
        if known or (kind == "missing" and index == len(location) - 1):
            path.append(part)
            value = child
    return tuple(path)


def _child(value: Any, part: int | str) -> tuple[bool, Any]:
    if isinstance(value, dict) and part in value:
        return True, value[part]
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return True, value[part]
    return False, value


def _sentence(item: dict[str, Any], model: type[BaseModel], path: KeyPath) -> str:
    kind, context, got = item["type"], item.get("ctx", {}), describe(item["input"])
    if kind == "extra_forbidden":
        return f"unknown key; {did_you_mean(str(path[-1]), keys_at(model, path[:-1]))}"
    if kind == "missing":
        return "missing; this key is required"
    if kind == "literal_error" or kind == "enum":
        return f"expected {context['expected']}, got {got}"
    if kind in _BOUNDS:
        name, sign = _BOUNDS[kind]
        return f"must be {sign} {context[name]}, got {got}"
    if kind in ("value_error", "assertion_error"):
        return str(context.get("error", item["msg"]))
    if kind == "int_from_float":
        return f"expected a whole number, got {got}"
    family = kind.rsplit("_", 1)[0] if kind.endswith(("_type", "_parsing")) else ""
    if family in _EXPECTED:
        return f"expected {_EXPECTED[family]}, got {got}"
    return f"{item['msg'][0].lower()}{item['msg'][1:]}, got {got}"


def keys_at(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that may stand at `path` below a model: fields of every model the annotation allows there."""
    models = [model]
    for part in path:
        annotations = [m.model_fields[str(part)].annotation for m in models if str(part) in m.model_fields]
        if annotations:  # a list index or a dictionary label stays with the models already found
            models = [found for annotation in annotations for found in _models(annotation)]
    return list(dict.fromkeys(name for found in models for name in found.model_fields))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, list, dict, tuple) or get_args(annotation):
        for argument in get_args(annotation):
            yield from _models(argument)
