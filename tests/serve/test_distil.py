"""From the store to a student: completions chosen by model, metadata and time, exported, and learnt from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest
from typer.testing import CliRunner

import tiny
from serve.live import running
from serve.test_chat import ASKED, TOOL
from tutelage.cli import build_app
from tutelage.errors import DataError
from tutelage.run.artifacts import ArtifactType
from tutelage.sources.stored import Selection, moment, stored
from tutelage.stages import sft
from tutelage.stages import stored as stage
from tutelage.stages.configs import SFTConfig, StoredConfig
from tutelage.store.engine import FILE

BRIEF: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["Paris.", "Lima."]}}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run folder whose store holds two finished replies, one that was cut, one of two choices, and a call."""
    folder = tmp_path_factory.mktemp("run")
    with running(folder / "models", store=f"sqlite:///{folder / FILE}") as server:
        with openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client:
            wanted: tuple[dict[str, Any], ...] = (
                {"response_format": BRIEF, "metadata": {"topic": "capitals", "good": "yes"}},
                {"response_format": BRIEF, "metadata": {"topic": "capitals"}},
                {"max_tokens": 2},
                {"response_format": BRIEF, "n": 2, "metadata": {"topic": "rivers"}},
                {"tools": [TOOL], "tool_choice": "required", "max_tokens": 300},
            )
            for settings in wanted:
                client.chat.completions.create(model="instruct", messages=ASKED, store=True, **settings)
        yield folder


def call(*arguments: str) -> Any:
    return CliRunner().invoke(build_app(), ["completions", *arguments])


def test_they_are_listed_and_exported_by_model_metadata_and_time(run: Path) -> None:
    shown = call("list", str(run), "--metadata", "topic=capitals")
    assert shown.exit_code == 0
    assert len(shown.stdout.strip().splitlines()) == 3  # and the headings
    assert "good=yes" in shown.stdout
    everything = run / "all.jsonl"
    assert call("export", str(run), "--out", str(everything)).exit_code == 0
    rows = [json.loads(line) for line in everything.read_text().splitlines()]
    assert [len(row["messages"]) for row in rows] == [2, 2, 2, 2, 2]
    assert len({row["id"] for row in rows}) == 5
    assert rows[0]["messages"][1]["content"] in ('"Paris."', '"Lima."')
    assert "model=instruct" in rows[0]["tags"]
    assert rows[-1]["messages"][1]["tool_calls"][0]["function"]["name"] == "look_up"
    assert rows[-1]["tools"] == [TOOL]
    assert len(call("export", str(run), "--unfinished").stdout.splitlines()) == 6
    assert call("list", str(run), "--model", "base").stdout.strip().count("\n") == 0
    later = datetime.fromtimestamp(moment("2100-01-01"), UTC).isoformat()
    assert list(stored(f"sqlite:///{run / FILE}", Selection(since=later))) == []
    assert len(list(stored(f"sqlite:///{run / FILE}", Selection(until=later)))) == 5


def test_what_cannot_be_meant_is_said(run: Path, tmp_path: Path) -> None:
    for arguments in (
        ("list", str(tmp_path)),
        ("list", str(run), "--metadata", "x"),
        ("list", str(run), "--since", "soon"),
    ):
        assert call(*arguments).exit_code == 2
    with pytest.raises(ValueError, match="Invalid isoformat"):
        StoredConfig(until="soon")
    with pytest.raises(DataError, match="no stored completion"):
        stage.run(StoredConfig(metadata={"topic": "none"}), {}, tiny.stage_run(run / "nothing"))


def test_a_student_learns_what_was_stored(run: Path, tmp_path: Path) -> None:
    taken = tiny.stage_run(run / "stored")
    stage.run(StoredConfig(metadata={"topic": "capitals"}), {}, taken)
    assert taken.metrics == {"conversations": 2, "problems": 0}
    cut = tiny.stage_run(run / "cut")
    stage.run(StoredConfig(), {}, cut)
    assert cut.metrics == {"conversations": 5, "problems": 1}
    assert any("cut short" in note for note in cut.notes)
    learning = tiny.stage_run(tmp_path / "student")
    inputs = {
        "model": tiny.model_artifact(tmp_path / "m"),
        "conversations": tiny.artifact(ArtifactType.CONVERSATIONS, run / "stored"),
    }
    config = SFTConfig(model="", conversations="", num_steps=3, validation_share=0, precision="float32")
    sft.run(config, inputs, learning)
    assert learning.metrics["num_conversations"] == 2
    assert all(math.isfinite(value) for value in learning.metrics.values())
