from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tutelage.run.journal import Journal
from tutelage.run.stage import ProgressBar, StageRun


class SilentBar:
    def advance(self, amount: float = 1, **shown: str | float) -> None:
        pass


@contextmanager
def silent(label: str, total: float | None) -> Iterator[ProgressBar]:
    yield SilentBar()


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[[str], StageRun]:
    def make(name: str) -> StageRun:
        directory = tmp_path / "run" / name
        directory.mkdir(parents=True)
        return StageRun(name, 0, directory, directory / "scratch", Journal(directory / "journal.jsonl"), silent)

    return make


@pytest.fixture
def shared_data() -> Path:
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data sets in {folder}")
    return folder
