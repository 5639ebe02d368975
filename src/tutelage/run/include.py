"""Recipes made of recipes: `include` brings the stages of other files in, so that no stage is written twice."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tutelage.errors import RecipeError
from tutelage.run.config import StageConfig
from tutelage.run.references import references
from tutelage.run.words import describe
from tutelage.run.yaml_text import KeyPath, YamlText, parse_yaml

Origins = dict[KeyPath, str]


def read_text(path: Path) -> str:
    """A recipe's text. Raises RecipeError."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such recipe", hint="check the path") from error
    except IsADirectoryError as error:
        raise RecipeError(f"{path}: a folder, not a recipe file") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}", hint="check its permissions") from error


class Whole(NamedTuple):
    """A recipe with the stages of those that it includes, `file:line` of every key, and the names of its own stages."""

    value: dict[str, Any]
    origins: Origins
    own: frozenset[str]


def whole(text: str, name: str, within: tuple[Path, ...] = ()) -> Whole:
    """Read a recipe and what it includes.

    Stages of included files come first. What this file writes itself holds; two included files must agree. Of the
    rest, only `needs` is taken over. Raises RecipeError.
    """
    document = parse_yaml(text, name)
    if not isinstance(document.value, dict):
        what = "empty" if document.value is None else f"expected a mapping, got {describe(document.value)}"
        raise RecipeError(f"{name}: {what}", hint="a recipe has the keys name, seed and stages")
    origins = {path: f"{name}:{line}" for path, line in document.lines.items()}
    value: dict[str, Any] = document.value
    own = value.get("stages") or {}
    if not isinstance(own, dict):
        return Whole(value, origins, frozenset())  # refused with the rest of what is wrong
    stages: dict[str, Any] = {}
    needs: list[str] = []
    chain = (*within, Path(name).resolve())
    for path in _paths(document, name, origins):
        if path.resolve() in chain:
            raise RecipeError(f"{name}: include: {path.name} leads back to itself", hint="take it out of `include`")
        brought, lines, _ = whole(read_text(path), str(path), chain)
        theirs, more = brought.get("stages"), brought.get("needs", [])
        if not isinstance(theirs, dict) or not isinstance(more, list):
            raise RecipeError(f"{path}: not a recipe that can be included", hint=f"tutelage run {path} --dry-run")
        _take(stages, theirs, own, origins, lines)
        needs += [need for need in more if need not in needs]
    if stages:
        value["stages"] = {**stages, **own}
    if needs:
        value["needs"] = [*(value.get("needs") or []), *needs]
    return Whole(value, origins, frozenset(own))


def _paths(document: YamlText, name: str, origins: Origins) -> list[Path]:
    named = document.value.get("include", [])
    listed = [named] if isinstance(named, str) else named
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        where = origins.get(("include",), name)
        raise RecipeError(f"{where}: include: expected a file or a list of files, got {describe(named)}")
    return [Path(name).parent / item for item in listed]


def _take(stages: dict[str, Any], brought: dict[str, Any], own: dict[str, Any], ours: Origins, theirs: Origins) -> None:
    for stage, config in brought.items():
        if stage in own:
            continue
        if stage in stages and stages[stage] != config:
            first, second = (lines.get(("stages", stage), "?") for lines in (ours, theirs))
            raise RecipeError(
                f"{second}: stages.{stage}: differs from the stage of that name in {first}",
                hint=f"make the two alike, or write {stage} in the recipe that includes them",
            )
        if stage not in stages:
            stages[stage] = config
            ours.update({path: line for path, line in theirs.items() if path[:2] == ("stages", stage)})


def needed(stages: Mapping[str, StageConfig], own: Collection[str]) -> dict[str, StageConfig]:
    """Of all stages, the file's own and those that lead to them; all, if it has none of its own."""
    found, left = set(own), list(own)
    while left:
        config = stages.get(left.pop())
        producers = {name.partition(".")[0] for _, name, _ in references(config)} if config is not None else set()
        left += producers - found
        found |= producers
    return {name: config for name, config in stages.items() if not own or name in found}
