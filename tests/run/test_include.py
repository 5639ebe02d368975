"""Recipes made of recipes: what is brought in, what holds, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_stages import TOYS

from tutelage.errors import RecipeError
from tutelage.run.recipe import Recipe, load_recipe

FIRST = (
    "name: first\nseed: 5\nneeds: [text]\nstages:\n  raw: {stage: gather}\n  corpus: {stage: clean, documents: raw}\n"
)
SECOND = "stages:\n  raw: {stage: gather}\n  base: {stage: train, corpus: corpus, steps: 3}\n"


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def load(folder: Path, *overrides: str) -> Recipe:
    return load_recipe(folder / "both.yaml", TOYS, overrides)


def test_only_what_its_own_stages_need_is_brought_in(tmp_path: Path) -> None:
    first = FIRST + "  other: {stage: clean, documents: raw}\n"
    both = "include: first.yaml\nstages:\n  base: {stage: train, corpus: corpus}\n"
    assert list(load(write(tmp_path, first=first, both=both)).stages) == ["raw", "corpus", "base"]
    write(tmp_path, both="include: first.yaml")
    assert list(load(tmp_path).stages) == ["raw", "corpus", "other"]


def test_included_stages_come_first_and_once(tmp_path: Path) -> None:
    both = (
        "include: [parts/first.yaml, parts/second.yaml]\nstages:\n"
        "  more: {stage: train, corpus: corpus, steps: 2}\n  again: {stage: show, models: {base: base}}\n"
    )
    write(tmp_path / "parts", first=FIRST, second=SECOND)
    recipe = load(write(tmp_path, both=both))
    assert list(recipe.stages) == ["raw", "corpus", "base", "more", "again"]
    assert (recipe.name, recipe.seed, recipe.needs) == ("both", 0, ("text",))
    assert recipe.where("stages", "base", "steps").startswith(f"{tmp_path / 'parts' / 'second.yaml'}:3: ")


def test_a_recipe_of_parts_resolves_to_one_without_them(tmp_path: Path) -> None:
    folder = write(tmp_path, first=FIRST, both="include: first.yaml")
    recipe = load(folder, "corpus.style=fancy")
    (folder / "resolved.yaml").write_text(recipe.to_yaml())
    assert load_recipe(folder / "resolved.yaml", TOYS).stages == recipe.stages
    assert "include" not in recipe.to_yaml()


def test_what_the_file_itself_writes_holds_and_two_that_differ_are_refused(tmp_path: Path) -> None:
    other = SECOND.replace("stage: gather", "stage: gather, lines: 9")
    folder = write(tmp_path, first=FIRST, second=other, both="include: [first.yaml, second.yaml]")
    with pytest.raises(RecipeError, match=r"second\.yaml:2: stages\.raw: differs .*first\.yaml:5") as caught:
        load(folder)
    assert "write raw in the recipe" in caught.value.hint
    write(
        tmp_path,
        both="include: [first.yaml, second.yaml]\n"
        "stages: {raw: {stage: gather, lines: 4}, base: {stage: train, corpus: corpus}}",
    )
    assert load(folder).stages["raw"].model_dump()["lines"] == 4


@pytest.mark.parametrize(
    ("both", "sentence"),
    [
        ("include: none.yaml", "no such recipe"),
        ("include: 3", "include: expected a file or a list of files, got 3"),
        ("include: both.yaml", "leads back to itself"),
        ("include: circle.yaml", "leads back to itself"),
        ("include: list.yaml", "not a recipe that can be included"),
        ("include: wrong.yaml", "wrong.yaml:2: stages.a.lins: unknown key"),
    ],
)
def test_what_cannot_be_included_is_named(tmp_path: Path, both: str, sentence: str) -> None:
    wrong = "stages:\n  a: {stage: gather, lins: 1}"
    folder = write(tmp_path, both=both, circle="include: both.yaml", list="stages: [a]", wrong=wrong)
    with pytest.raises(RecipeError) as caught:
        load(folder)
    assert sentence in str(caught.value)
