"""The stages `memory` and `persona`, and what is measured of the same model on the items of both."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tiny import artifact, conversations_artifact, model_artifact, stage_run, tokenizer
from tutelage.data.conversations import render_set
from tutelage.errors import DataError
from tutelage.run.artifacts import ArtifactType
from tutelage.sources.preferences import Pair, preferences_of
from tutelage.sources.store import read_jsonl, write_documents
from tutelage.stages import evaluate, memory, persona
from tutelage.stages.configs import EvaluateConfig, MemoryConfig, PersonaConfig

SMALL = {"conversations": 30, "items": 3}


def make_memory(folder: Path, seed: int = 0) -> Path:
    rows = [{"id": "1", "text": "lantern lantern lantern once", "source": "s"}]
    write_documents(folder.parent / "words", rows)
    inputs = {
        "plain": conversations_artifact(folder.parent / "plain"),
        "words": artifact(ArtifactType.CORPUS, folder.parent / "words"),
    }
    run = stage_run(folder, seed=seed)
    memory.run(MemoryConfig(plain="plain", words="words", drill=30, **SMALL), inputs, run)
    assert run.metrics["conversations"] == run.metrics["drill"] == 30
    assert run.metrics["tasks"] == 3 * (5 + 4)
    return run.directory


def make_persona(folder: Path, seed: int = 0) -> Path:
    run = stage_run(folder, seed=seed)
    persona.run(PersonaConfig(preferences=20, cards_share=0.5, **SMALL), {}, run)
    assert run.metrics["cards"] >= 4
    assert run.metrics["tasks"] == 3 * 3
    return run.directory


@pytest.mark.parametrize("make", [make_memory, make_persona])
def test_the_same_seed_writes_the_same_bytes_and_everything_can_be_trained_on(
    make: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    one, same, other = make(tmp_path / "a", 1), make(tmp_path / "b", 1), make(tmp_path / "c", 2)
    for path in sorted(one.rglob("*.jsonl")):
        name = path.relative_to(one)
        assert path.read_bytes() == (same / name).read_bytes() != (other / name).read_bytes()
        if path.name == "conversations.jsonl":
            assert render_set(tokenizer(), read_jsonl(path), 4096).num_untrained == 0


def test_pairs_can_be_read_as_preferences_of_anybody(tmp_path: Path) -> None:
    rows = list(read_jsonl(make_persona(tmp_path / "p") / "preferences" / "preferences.jsonl"))
    assert {row["split"] for row in rows} <= {"train", "validation"}
    for row in rows:
        given = {key: row[key] for key in ("prompt", "chosen", "rejected")}
        [read] = preferences_of(given)
        assert isinstance(read, Pair)
        assert (read.chosen, read.rejected) == (row["chosen"], row["rejected"])


def test_one_evaluation_takes_the_items_of_several_stages(tmp_path: Path) -> None:
    told, played = make_memory(tmp_path / "m"), make_persona(tmp_path / "p")
    inputs = {
        "models.tiny": model_artifact(tmp_path / "model", max_position_embeddings=64),
        "tasks.0": artifact(ArtifactType.TASKS, told / "tasks"),
        "tasks.1": artifact(ArtifactType.TASKS, played / "tasks"),
    }
    config = EvaluateConfig(models={"tiny": "tiny"}, tasks=["m.tasks", "p.tasks"], max_tokens=3)
    run = stage_run(tmp_path / "out")
    evaluate.run(config, inputs, run)
    results = json.loads((run.directory / "results.json").read_text(encoding="utf-8"))
    found = {(row["task"], row["metric"]) for row in results}
    assert {("memory_recall", "after_6/recall"), ("memory_session", "noted"), ("persona_pressure", "kept")} <= found
    (told / "tasks" / "tasks.jsonl").write_text('{"id": "x", "task": "memry"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="no measure for the task 'memry'"):
        evaluate.run(config, inputs, stage_run(tmp_path / "again"))
