"""Recipes: one YAML file that names stages, read strictly, with dotted overrides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError

from tutelage.errors import RecipeError
from tutelage.run.config import StageConfig, Strict
from tutelage.run.include import needed, read_text, whole
from tutelage.run.stage import StageSpec
from tutelage.run.words import describe, did_you_mean, dotted, explain, real_path
from tutelage.run.yaml_text import KeyPath, parse_yaml

Specs = Mapping[str, StageSpec]
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Model = TypeVar("Model", bound=BaseModel)


class RecipeHeader(Strict):
    """The top level of a recipe file."""

    name: str = Field(pattern=_NAME, description="The recipe's name; its run folder is runs/<name>.")
    description: str = Field("", description="What the recipe makes, for people.")
    seed: int = Field(0, ge=0, lt=2**31, description="Every stage's seed is derived from this and the stage's name.")
    needs: list[str] = Field([], description="How to get the data that the recipe reads; printed when it is missing.")
    run_dir: Path | None = Field(None, description="Where to write; runs/<name> if not given.")
    threads: int | None = Field(None, ge=1, description="Processor threads; kept for the life of the run folder.")
    include: str | list[str] = Field([], description="Recipes whose stages are brought in; paths from this file.")
    stages: dict[str, Any] = Field(min_length=1, description="Stage name → its type (`stage:`) and settings.")


@dataclass(frozen=True)
class Recipe:
    """A checked recipe; `origins` knows the file and line (or the override) that each key came from."""

    name: str
    seed: int
    stages: dict[str, StageConfig]
    description: str = ""
    needs: tuple[str, ...] = ()
    run_dir: Path | None = None
    threads: int | None = None
    source: str = "recipe"
    origins: Mapping[KeyPath, str] = field(default_factory=dict, compare=False, repr=False)

    def where(self, *path: str | int) -> str:
        """`file:line: key.path`, with the line of the nearest key that is written out."""
        return _where(self.origins, self.source, path)

    def stage_seed(self, stage: str) -> int:
        """The stage's own seed, or one derived from the recipe's seed and the stage's name."""
        own = self.stages[stage].seed
        assert not isinstance(own, str), "a name is put in place by `read_recipe`"
        if own is not None:
            return own
        text = f"{self.seed}/{stage}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") & 0x7FFFFFFF

    def resolved(self) -> dict[str, Any]:
        """The recipe with every default written out, as plain data."""
        head: dict[str, Any] = {"name": self.name, "seed": self.seed}
        if self.description:
            head["description"] = self.description
        if self.needs:
            head["needs"] = list(self.needs)
        if self.threads is not None:
            head["threads"] = self.threads
        return {**head, "stages": {name: stage.model_dump(mode="json") for name, stage in self.stages.items()}}

    def to_yaml(self) -> str:
        """The resolved recipe as YAML; loading it gives an equal recipe."""
        return yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True, width=120)


def load_recipe(path: Path, specs: Specs, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply overrides; every problem is listed at once. Raises RecipeError."""
    return read_recipe(read_text(path), str(path), specs, overrides)


def read_recipe(text: str, name: str, specs: Specs, overrides: Sequence[str] = ()) -> Recipe:
    """As `load_recipe`, from a text; `name` stands for the file in messages."""
    value, origins, own = whole(text, name)
    value.setdefault("name", Path(name).stem)
    for override in overrides:
        _apply(value, origins, override)
    recipe = _with_named_seeds(_check(value, name, specs, origins))
    return replace(recipe, stages=needed(recipe.stages, own))


def _apply(recipe: dict[str, Any], origins: dict[KeyPath, str], override: str) -> None:
    """Set one `key.path=value`; the value is read as YAML, the path begins at a stage or at the top."""
    key, separator, text = override.partition("=")
    path: list[str | int] = list(key.strip().split("."))
    if not separator or not all(path):
        raise RecipeError(f"override {override!r}: expected key.path=value", hint="for example base.learning_rate=1e-3")
    raw_stages = recipe.get("stages")
    stages = raw_stages if isinstance(raw_stages, dict) else {}
    if path[0] != "stages" and (len(path) > 1 or path[0] not in RecipeHeader.model_fields):
        path = ["stages", *path]
    if path[0] == "stages" and (len(path) < 3 or path[1] not in stages):
        names = [*stages, *RecipeHeader.model_fields] if "." not in key else [*stages]
        unknown = str(path[1]) if len(path) > 1 else key
        if unknown in stages:
            raise RecipeError(f"override {override!r}: names a whole stage", hint=f"name a key: {unknown}.KEY=value")
        raise RecipeError(f"override {override!r}: there is no stage {unknown}; {did_you_mean(unknown, names)}")
    value = parse_yaml(text, f"override {override!r}").value
    _set(recipe, path, value, override)
    for known in [known for known in origins if known[: len(path)] == tuple(path)]:
        del origins[known]
    for length in range(1, len(path) + 1):  # the mappings that it made are its too
        origins.setdefault(tuple(path[:length]), f"override {override!r}")


def _set(target: Any, path: list[str | int], value: Any, override: str) -> None:
    for index, part in enumerate(path):
        if isinstance(target, list):
            if not str(part).isdecimal() or int(part) >= len(target):
                raise RecipeError(f"override {override!r}: {dotted(tuple(path[:index]))} has items 0…{len(target) - 1}")
            part = path[index] = int(part)
        elif not isinstance(target, dict):
            raise RecipeError(
                f"override {override!r}: {dotted(tuple(path[:index]))} is {describe(target)}, not a mapping"
            )
        if index == len(path) - 1:
            target[part] = value
        elif isinstance(target, dict) and target.get(part) is None:
            target[part] = {}
        target = target[part]


def _check(value: dict[str, Any], source: str, specs: Specs, origins: dict[KeyPath, str]) -> Recipe:
    problems: list[tuple[KeyPath, str]] = []
    header = _validate(RecipeHeader, value, (), problems)
    stages: dict[str, StageConfig] = {}
    raw_stages = value.get("stages")
    for name, raw in raw_stages.items() if isinstance(raw_stages, dict) else ():
        config = _stage(name, raw, specs, problems)
        if config is not None:
            stages[name] = config
    if problems or header is None:
        raise _refusal(problems, source, origins)
    return Recipe(
        name=header.name,
        seed=header.seed,
        stages=stages,
        description=header.description,
        needs=tuple(header.needs),
        run_dir=header.run_dir,
        threads=header.threads,
        source=source,
        origins=origins,
    )


def _with_named_seeds(recipe: Recipe) -> Recipe:
    """With the seed of stage NAME in place of every `seed: NAME`: what is drawn alike stays so, whatever the recipe's
    seed. Raises RecipeError where there is no such stage.
    """
    stages = dict(recipe.stages)
    problems: list[tuple[KeyPath, str]] = []
    for name, config in recipe.stages.items():
        if not isinstance(named := config.seed, str):
            continue
        if sentence := _no_seed(recipe, name, named):
            problems.append((("stages", name, "seed"), sentence))
        else:
            stages[name] = config.model_copy(update={"seed": recipe.stage_seed(named)})
    if problems:
        raise _refusal(problems, recipe.source, recipe.origins)
    return replace(recipe, stages=stages)


def _no_seed(recipe: Recipe, name: str, named: str) -> str:
    """Why stage `name` cannot have the seed of stage `named`; nothing if it can."""
    if named == name:
        return f"{name} cannot have its seed from itself: write a whole number, or leave the key out"
    if named not in recipe.stages:
        others = [other for other in recipe.stages if other != name]
        return f"expected a whole number or the name of a stage, got {named!r}; {did_you_mean(named, others)}"
    if isinstance(given := recipe.stages[named].seed, str):
        chained = given == name or given not in recipe.stages or isinstance(recipe.stages[given].seed, str)
        return f"{named} has its seed from {given}: {'write a whole number' if chained else 'name that stage'}"
    return ""


def _stage(name: str, raw: Any, specs: Specs, problems: list[tuple[KeyPath, str]]) -> StageConfig | None:
    path: KeyPath = ("stages", name)
    if not _is_stage_name(name):
        problems.append((path, "a stage's name is made of letters, digits, - and _"))
        return None
    if not isinstance(raw, dict):
        problems.append((path, f"expected a mapping with the key `stage`, got {describe(raw)}"))
        return None
    kind = raw.get("stage")
    if not isinstance(kind, str):
        problems.append(((*path, "stage"), f"missing; it chooses the type of stage: {', '.join(specs)}"))
        return None
    if kind not in specs:
        problems.append(((*path, "stage"), f"unknown type of stage {kind!r}; {did_you_mean(kind, list(specs))}"))
        return None
    return _validate(specs[kind].config, raw, path, problems)


def _is_stage_name(name: str) -> bool:
    # no dots: `stage.output` and the folder `stage.partial` use them
    return name.isascii() and name.replace("-", "").replace("_", "").isalnum() and name[0] not in "-_"


def _validate(
    model: type[Model], value: dict[str, Any], path: KeyPath, problems: list[tuple[KeyPath, str]]
) -> Model | None:
    """Validate, and note what is wrong; `true` where a number belongs is refused too (pydantic would take it as 1)."""
    before = len(problems)
    checked = None
    try:
        checked = model.model_validate(value)
    except ValidationError as error:
        problems += [((*path, *below), sentence) for below, sentence in explain(error, model, value)]
    try:
        model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            below = real_path(item["loc"], item["type"], value)
            if isinstance(item["input"], bool) and item["type"] in ("int_type", "float_type"):
                problems.append(((*path, *below), f"expected a number, got {describe(item['input'])}"))
    return checked if len(problems) == before else None


def _refusal(problems: list[tuple[KeyPath, str]], source: str, origins: Mapping[KeyPath, str]) -> RecipeError:
    lines = [f"{_where(origins, source, path)}: {sentence}" for path, sentence in dict.fromkeys(problems)]
    hint = "`tutelage schema STAGE` lists a stage's keys; `tutelage stages` lists the stages"
    if len(lines) == 1:
        return RecipeError(lines[0], hint=hint)
    return RecipeError(f"{source}: {len(lines)} problems\n" + "\n".join(f"  {line}" for line in lines), hint=hint)


def _where(origins: Mapping[KeyPath, str], source: str, path: KeyPath) -> str:
    for length in range(len(path), 0, -1):
        if path[:length] in origins:
            return f"{origins[path[:length]]}: {dotted(path)}"
    return f"{source}: {dotted(path)}" if path else source
