"""Recipes: what is accepted, and how everything else is refused."""

from __future__ import annotations

import contextlib
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_stages import RECIPE, TOYS, Shape, TrainConfig

from tutelage.errors import RecipeError
from tutelage.run.recipe import Recipe, load_recipe, read_recipe
from tutelage.run.yaml_text import parse_yaml


def read(text: str, *overrides: str) -> Recipe:
    return read_recipe(text, "toy.yaml", TOYS, overrides)


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read(text, *overrides)
    return str(caught.value)


def base(recipe: Recipe) -> TrainConfig:
    config = recipe.stages["base"]
    assert isinstance(config, TrainConfig)
    return config


def stage(line: str) -> str:
    """A recipe whose line 3 is the stage `base` with `line` in it."""
    return f"name: toy\nstages:\n  base: {{stage: train, corpus: raw, {line}}}\n  raw: {{stage: gather}}\n"


def test_a_good_recipe() -> None:
    recipe = read(RECIPE)
    assert (recipe.name, recipe.seed, list(recipe.stages)) == ("toy", 1, ["raw", "corpus", "base", "report"])
    assert base(recipe).model == Shape(hidden_size=16)


def test_the_resolved_recipe_has_every_default_and_loads_as_itself() -> None:
    recipe = read(RECIPE, "base.learning_rate=1e-5")
    again = read(recipe.to_yaml())
    assert again.stages == recipe.stages
    assert again.seed == recipe.seed
    assert "shuffle: true" in recipe.to_yaml()


def test_an_unknown_key_names_line_path_and_nearest() -> None:
    message = refusal(stage("leraning_rate: 1"))
    assert message.startswith("toy.yaml:3: stages.base.leraning_rate: unknown key; did you mean learning_rate?")


def test_an_unknown_key_deeper_down_names_the_nearest_of_that_level() -> None:
    assert "stages.base.model.hiden_size: unknown key; did you mean hidden_size?" in refusal(
        stage("model: {hiden_size: 3}")
    )
    assert "stages.base.model.zzz: unknown key; known: hidden_size, dropout" in refusal(stage("model: {zzz: 3}"))
    assert "toy.yaml:1: sede: unknown key; did you mean seed?" in refusal("sede: 3\nstages: {raw: {stage: gather}}")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("steps: many", "stages.base.steps: expected a whole number, got the text 'many'"),
        ("steps: 2.5", "stages.base.steps: expected a whole number, got 2.5"),
        ("steps: true", "stages.base.steps: expected a number, got true"),
        ("steps: 0", "stages.base.steps: must be > 0, got 0"),
        ("steps: [1, 2]", "stages.base.steps: expected a whole number, got a list of 2"),
        ("steps: null", "stages.base.steps: expected a whole number, got nothing (null)"),
        ("learning_rate: fast", "stages.base.learning_rate: expected a number, got the text 'fast'"),
        ("shuffle: perhaps", "stages.base.shuffle: expected true or false, got the text 'perhaps'"),
        ("model: big", "stages.base.model: expected a mapping of keys to values, got the text 'big'"),
        ("model: {hidden_size: x}", "stages.base.model.hidden_size: expected a whole number, got the text 'x'"),
    ],
)
def test_wrong_types_are_explained(line: str, sentence: str) -> None:
    assert f"toy.yaml:3: {sentence}" in refusal(stage(line))


def test_a_wrong_choice_lists_the_choices() -> None:
    text = "stages:\n  c: {stage: clean, documents: raw, style: fance}\n  raw: {stage: gather}"
    assert "toy.yaml:2: stages.c.style: expected 'plain' or 'fancy', got the text 'fance'" in refusal(text)


def test_all_problems_are_listed_at_once() -> None:
    message = refusal("seed: -1\nstages:\n  a: {stage: train}\n  b: {stage: gathr}\n  c: 3\n  d: {lines: 1}\n")
    assert "toy.yaml: 5 problems" in message
    assert "toy.yaml:1: seed: must be ≥ 0, got -1" in message
    assert "toy.yaml:3: stages.a.corpus: missing" in message
    assert "toy.yaml:4: stages.b.stage: unknown type of stage 'gathr'; did you mean gather?" in message
    assert "toy.yaml:5: stages.c: expected a mapping with the key `stage`, got 3" in message
    assert "toy.yaml:6: stages.d.stage: missing; it chooses the type of stage" in message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "toy.yaml: empty"),
        ("- a", "toy.yaml: expected a mapping, got a list of 1"),
        ("name: x", "stages: missing"),
        ("name: x\nstages: {}", "toy.yaml:2: stages: "),
        ("name: ../x\nstages: {raw: {stage: gather}}", "toy.yaml:1: name: "),
        ("stages:\n  a.b: {stage: gather}", "stages.a.b: a stage's name is made of"),
        ("name: x\nname: y", "toy.yaml:2: name: written twice (first on line 1)"),
        ("stages:\n  a: {lines: 1}\n  a: {lines: 2}", "toy.yaml:3: stages.a: written twice (first on line 2)"),
        ("stages:\n\ta: 1", "toy.yaml:2: not valid YAML"),
        ("a: [1, 2", "not valid YAML"),
        ("a: &a [*a]", "an anchor refers to itself"),
        ("a: !!python/object:os.system x", "is not supported"),
        ("a: \x07", "not valid YAML"),
        ("a: " + "[" * 1500, "toy.yaml: "),
    ],
)
def test_what_is_no_recipe_is_refused(text: str, sentence: str) -> None:
    assert sentence in refusal(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    for path, sentence in (("none.yaml", "no such recipe"), (".", "a folder"), ("latin.yaml", "not UTF-8")):
        with pytest.raises(RecipeError, match=sentence):
            load_recipe(tmp_path / path, TOYS)


def test_overrides() -> None:
    recipe = read(
        RECIPE, "base.learning_rate=1e-3", "stages.base.model.hidden_size=256", "seed=3", "raw.text=no", "base.seed=7"
    )
    assert base(recipe).learning_rate == 1e-3
    assert base(recipe).model.hidden_size == 256
    assert recipe.stages["raw"].model_dump()["text"] == "no"
    assert (recipe.seed, recipe.stage_seed("base")) == (3, 7)


def test_an_override_makes_the_mappings_it_needs() -> None:
    assert base(read(stage("steps: 1"), "base.model.hidden_size=2")).model.hidden_size == 2


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("bse.steps=1", "there is no stage bse; did you mean base?"),
        ("sede=1", "there is no stage sede; did you mean seed?"),
        ("base.stps=1", "override 'base.stps=1': stages.base.stps: unknown key; did you mean steps?"),
        ("base.model.hiden_size=1", "stages.base.model.hiden_size: unknown key; did you mean hidden_size?"),
        ("base.steps=many", "override 'base.steps=many': stages.base.steps: expected a whole number"),
        ("base.steps", "expected key.path=value"),
        ("=3", "expected key.path=value"),
        ("base..steps=3", "expected key.path=value"),
        ("base=3", "names a whole stage"),
        ("base.steps.more=3", "override 'base.steps.more=3': stages.base.steps: expected a whole number"),
        ("report.models.base.x=3", "stages.report.models.base is the text 'base', not a mapping"),
        ("base.steps=[1", "not valid YAML"),
    ],
)
def test_bad_overrides_are_named(override: str, sentence: str) -> None:
    assert sentence in refusal(RECIPE, override)


def test_seeds_differ_by_stage_and_follow_the_recipes_seed() -> None:
    one, two = read(RECIPE), read(RECIPE, "seed=2")
    assert len({one.stage_seed(name) for name in one.stages}) == len(one.stages)
    assert one.stage_seed("base") != two.stage_seed("base")
    assert one.stage_seed("base") == read(RECIPE).stage_seed("base")


def test_yaml_without_surprises() -> None:
    text = "{a: 1e-3, b: no, c: 2024-01-01, d: 010, e: .5, f: -.inf, g: 1_000, h: '5', i: ~, j: 1:30, k: true}"
    values = {"a": 1e-3, "b": "no", "c": "2024-01-01", "d": 10, "e": 0.5, "f": -float("inf"), "g": 1000, "h": "5"}
    assert parse_yaml(text, "t").value == {**values, "i": None, "j": "1:30", "k": True}


def test_merge_keys() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}"
    assert parse_yaml(text, "t").value["b"] == {"x": 1, "y": 3}


@given(st.text(alphabet=string.printable + "é✓\x00", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(RecipeError):
        read(text)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans())
def test_numbers_survive_an_override(value: float) -> None:
    assert parse_yaml(str(value).lower(), "t").value == value


TWINS = "seed: {seed}\nstages:\n  raw: {{stage: gather}}\n  twin: {{stage: gather, seed: {named}}}\n"


@pytest.mark.parametrize("seed", [0, 7])
def test_a_stage_can_have_the_seed_of_another_whatever_the_recipes(seed: int) -> None:
    recipe = read(TWINS.format(seed=seed, named="raw"))
    assert recipe.stage_seed("twin") == recipe.stage_seed("raw") == read(recipe.to_yaml()).stage_seed("twin")
    assert read(TWINS.format(seed=seed, named="raw"), "raw.seed=3").stage_seed("twin") == 3
    assert read(TWINS.format(seed=seed, named=5), "twin.seed=raw").stage_seed("twin") == recipe.stage_seed("raw")
    assert "other has its seed from raw: name that stage" in refusal(
        TWINS.format(seed=seed, named="other") + "  other: {stage: gather, seed: raw}\n"
    )
    assert "twin.seed: other has its seed from twin: write a whole number" in refusal(
        TWINS.format(seed=seed, named="other") + "  other: {stage: gather, seed: twin}\n"
    )


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("rew", "stages.twin.seed: expected a whole number or the name of a stage, got 'rew'; did you mean raw?"),
        ("twin", "toy.yaml:4: stages.twin.seed: twin cannot have its seed from itself: write a whole number, or leave"),
        ("true", "toy.yaml:4: stages.twin.seed: expected a number, got true"),
        ("[1]", "toy.yaml:4: stages.twin.seed: expected a whole number or text, got a list"),
    ],
)
def test_a_seed_that_is_of_no_stage_is_refused(named: str, said: str) -> None:
    assert said in refusal(TWINS.format(seed=0, named=named))
