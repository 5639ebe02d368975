"""Documentation cannot drift: pages, settings, commands, recipes, links and examples are compared with the code."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tutelage import errors
from tutelage.cli import COMMANDS
from tutelage.evaluation.tasks import TASKS
from tutelage.objectives.preference import PREFERENCE_LOSSES
from tutelage.run.config import PACKAGE
from tutelage.run.graph import build_graph
from tutelage.run.recipe import RecipeHeader, load_recipe, read_recipe
from tutelage.sources.conversations import FORMATS as CONVERSATION_FORMATS
from tutelage.sources.conversations import conversations_of
from tutelage.sources.documents import FORMATS as DOCUMENT_FORMATS
from tutelage.sources.documents import document_of
from tutelage.sources.preferences import FORMATS as PREFERENCE_FORMATS
from tutelage.sources.preferences import preferences_of
from tutelage.sources.rows import Format
from tutelage.stages import STAGES
from tutelage.talk.terminal import HELP

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
MARKDOWN = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def read(*names: str) -> str:
    return "\n".join((ROOT / name).read_text(encoding="utf-8") for name in names)


@pytest.fixture(scope="module")
def generate() -> Iterator[ModuleType]:
    sys.path.insert(0, str(DOCS))
    import generate as module

    yield module
    sys.path.remove(str(DOCS))
    del sys.modules["generate"]


def test_generated_parts_are_those_of_the_code(generate: ModuleType) -> None:
    for path, generated in generate.pages():
        page = path.read_text(encoding="utf-8")
        assert generate.insert(page, generated) == page, f"{path} is out of date: run docs/generate.py"


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_page_with_every_setting_and_its_meaning(stage: str, generate: ModuleType) -> None:
    page = read(f"docs/stages/{stage}.md")
    assert page.startswith(f"# {stage}: ")
    rows = list(generate.settings(STAGES[stage].config))
    named = {row[0].strip("`").partition(".")[0] for row in rows} | {"stage"}
    assert named == set(STAGES[stage].config.model_fields)
    for name, kind, default, meaning in rows:
        assert f"| {name} | {kind} | {default} |" in page
        assert meaning, f"{stage}.{name} says nothing: give it a description"
    for heading in ("## Settings", "## Metrics", "## What goes wrong"):
        assert heading in page


def test_pages_of_stages_are_short_and_there_is_none_of_a_stage_that_is_gone() -> None:
    pages = sorted((DOCS / "stages").glob("*.md"))
    assert {page.stem for page in pages} == set(STAGES)
    assert max(len(page.read_text(encoding="utf-8").splitlines()) for page in pages) <= 110


def test_every_command_is_in_readme_or_guide_and_every_command_there_exists() -> None:
    text = read("README.md", "docs/guide.md")
    assert [name for name in COMMANDS if f"tutelage {name}" not in text] == []
    shown = re.findall(r"(?:^\s*|`)tutelage ([a-z]+)", text, re.MULTILINE)
    assert shown
    assert [name for name in shown if name not in COMMANDS] == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_is_named_in_the_documentation(path: Path) -> None:
    recipe = load_recipe(path, STAGES)
    assert build_graph(recipe, STAGES).order
    assert recipe.name == path.stem
    assert recipe.description
    assert f"recipes/{path.name}" in read("README.md", "docs/guide.md")
    given = [stage for stage in recipe.stages.values() if hasattr(stage, "path")]
    from_outside = [stage for stage in given if not str(getattr(stage, "path", "")).startswith(PACKAGE)]
    assert not from_outside or recipe.needs or all(getattr(stage, "needs", "") for stage in from_outside)


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_internal_links_resolve(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'src="([^"]+)"', text)]
    for link in links:
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{path}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{path}: {link}"


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_paths_in_the_text_exist() -> None:
    for path in MARKDOWN:
        named = re.findall(r"`((?:src|tests|docs|recipes)/[\w./-]+)`", path.read_text(encoding="utf-8"))
        missing = [name for name in named if "name" not in Path(name).stem and not (ROOT / name).exists()]
        assert missing == [], path


def test_the_index_links_every_page() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = [page.relative_to(DOCS).as_posix() for page in sorted(DOCS.rglob("*.md")) if page.name != "index.md"]
    assert [page for page in pages if f"({page})" not in index] == []


def test_make_targets_named_in_the_documentation_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:^\s+|`)make ([a-z-]+)", read("README.md", "CONTRIBUTING.md", "docs/guide.md"), re.M))
    assert {"quickstart", "test"} <= named <= targets


def test_recipes_written_out_in_the_documentation_are_valid() -> None:
    blocks = re.findall(r"^```yaml\n(name: .*?)^```", read("README.md", "docs/guide.md"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        assert build_graph(read_recipe(block, "recipe", STAGES), STAGES).order


def examples(kind: str) -> list[dict[str, Any]]:
    blocks = re.findall(rf"^```json {kind}\n(.*?)^```", read("docs/guide.md"), re.MULTILINE | re.DOTALL)
    return [json.loads(line) for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize(
    ("kind", "convert", "formats"),
    [
        ("documents", document_of, DOCUMENT_FORMATS),
        ("conversations", conversations_of, CONVERSATION_FORMATS),
        ("preferences", preferences_of, PREFERENCE_FORMATS),
    ],
)
def test_the_guide_has_a_row_of_every_format_and_all_are_accepted(
    kind: str, convert: Callable[[dict[str, Any]], Any], formats: tuple[Format, ...]
) -> None:
    rows = examples(kind)
    assert all(convert(row) for row in rows)
    found = {next(item.name for item in formats if set(item.keys) <= row.keys()) for row in rows}
    assert found | {"OpenAssistant tree"} >= {item.name for item in formats}


def test_the_guide_knows_every_error_family_and_every_word_of_the_chat() -> None:
    guide = read("docs/guide.md")
    assert [one.__name__ for one in errors.TutelageError.__subclasses__() if f"`{one.__name__}`" not in guide] == []
    assert [command for command in HELP if f"`{command}`" not in guide] == []
    assert [name for name in RecipeHeader.model_fields if name != "stages" and f"`{name}`" not in guide] == []


def test_the_pages_name_every_task_and_every_preference_loss() -> None:
    assert [task for task in TASKS if f"`{task}`" not in read("docs/stages/evaluate.md")] == []
    offered = STAGES["dpo"].config.model_fields["loss"].annotation
    names = getattr(offered, "__args__", ())
    assert set(names) <= set(PREFERENCE_LOSSES)
    formulas = read("docs/stages/dpo.md").partition("## Settings")[0]
    assert [name for name in names if f"`{name}`" not in formulas] == []


def test_decision_records_have_their_four_parts() -> None:
    records = sorted((DOCS / "decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        text = path.read_text(encoding="utf-8")
        assert all(part in text for part in ("**Context.**", "**Decision.**", "**Why.**", "**Given up.**")), path
