"""The pages of docs/methods name code that exists, and every preference loss."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from tutelage.objectives.preference import PREFERENCE_LOSSES

PAGES = sorted((Path(__file__).resolve().parents[1] / "docs" / "methods").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_function_named_exists(page: Path) -> None:
    named = re.findall(r"`(objectives\.\w+)\.(\w+)`", page.read_text(encoding="utf-8"))
    assert named
    missing = [f"{module}.{name}" for module, name in named if not hasattr(import_module(f"tutelage.{module}"), name)]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_says_what_to_do(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if page.stem == "reward-over-optimisation":
        assert "## What to do with it" in text
    else:
        assert all(heading in text for heading in ("## Equation", "## What a healthy run looks like"))
        assert "## What goes wrong" in text


def test_the_page_of_dpo_has_every_loss() -> None:
    page = next(page for page in PAGES if page.stem == "dpo").read_text(encoding="utf-8")
    assert [name for name in PREFERENCE_LOSSES if f"| `{name}` |" not in page] == []
