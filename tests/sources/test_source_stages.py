from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.errors import DataError
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.stage import StageRun
from tutelage.sources.store import read_documents, read_jsonl
from tutelage.stages import conversations, documents, preferences, prompts
from tutelage.stages.configs import ConversationsConfig, DocumentsConfig, PreferencesConfig, PromptsConfig

MakeRun = Callable[[str], StageRun]


def test_documents(tmp_path: Path, make_run: MakeRun) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("one\n\ntwo\n\nthree")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "row"}\n{"text": 1}\n'))
    (folder / "picture.png").write_bytes(b"\x89PNG")
    run = make_run("documents")
    config = DocumentsConfig(path=str(folder), split="paragraphs", max_characters=6, language="en")
    documents.run(config, {}, run)
    table = read_documents(run.directory)
    assert table["text"].to_pylist() == ["one", "two", "three", "row"]
    assert set(table["language"].to_pylist()) == {"en"}
    (problem,) = read_jsonl(run.directory / "problems.jsonl")
    assert (problem["file"], problem["line"]) == (str(folder / "b.jsonl.gz"), 2)
    assert run.metrics == {"documents": 4, "characters": 14, "files": 2, "problems": 1}
    assert "picture.png" in run.notes[0]
    assert "1 of 5 rows were refused" in run.notes[1]
    assert f"{folder / 'b.jsonl.gz'}:2: `text` is not text" in run.notes[2]


def test_a_file_name_that_is_not_utf8_can_still_be_reported(tmp_path: Path, make_run: MakeRun) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in (b"caf\xe9.jsonl", b"caf\xe9.png"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text('{"text": "row"}\n{"text": 1}\n')
    run = make_run("documents")
    documents.run(DocumentsConfig(path=str(folder)), {}, run)
    assert read_documents(run.directory)["source"].to_pylist() == ["data/caf\N{REPLACEMENT CHARACTER}.jsonl"]
    "".join(run.notes).encode()


def test_the_limit_stops_early(tmp_path: Path, make_run: MakeRun) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n' * 10 + "broken\n")
    run = make_run("documents")
    documents.run(DocumentsConfig(path=str(tmp_path / "a.jsonl"), limit=3, on_problem="stop"), {}, run)
    assert read_documents(run.directory).num_rows == 3


@pytest.mark.parametrize(
    ("stage", "config"),
    [(documents, DocumentsConfig), (conversations, ConversationsConfig), (preferences, PreferencesConfig)],
)
def test_missing_empty_and_unreadable_data(tmp_path: Path, make_run: MakeRun, stage: Any, config: Any) -> None:
    gone = config(path=str(tmp_path / "gone"), needs="download it from the museum")
    with pytest.raises(DataError, match="gone: no such file") as caught:
        stage.run(gone, {}, make_run("a"))
    assert caught.value.hint == "download it from the museum"
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="no rows"):
        stage.run(config(path=str(tmp_path / "empty.jsonl")), {}, make_run("b"))
    (tmp_path / "sound.wav").write_text("")
    with pytest.raises(DataError, match=r"sound\.wav: 1 files, none of a kind that is read"):
        stage.run(config(path=str(tmp_path / "sound.wav")), {}, make_run("c"))
    (tmp_path / "odd.jsonl").write_text('{"zebra": 1}\n')
    with pytest.raises(DataError, match="Keys of the first: zebra"):
        stage.run(config(path=str(tmp_path / "odd.jsonl")), {}, make_run("d"))
    with pytest.raises(DataError, match=r"odd\.jsonl:1: fits no accepted format"):
        stage.run(config(path=str(tmp_path / "odd.jsonl"), on_problem="stop"), {}, make_run("e"))


def chat(*contents: str) -> str:
    roles = ("user", "assistant")
    return json.dumps({"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)]})


def test_conversations_then_prompts(tmp_path: Path, make_run: MakeRun) -> None:
    lines = [chat("Q1", "A1"), chat("Q2", "A2", "Q3", "A3"), chat("alone"), *(chat(f"q{n}", "a") for n in range(8))]
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    run = make_run("conversations")
    conversations.run(ConversationsConfig(path=str(tmp_path / "chats.jsonl"), tags=["mine"]), {}, run)
    rows = list(read_jsonl(run.directory / "conversations.jsonl"))
    assert len(rows) == 10
    assert all(row["tags"] == ["mine"] and row["source"] == "chats.jsonl" for row in rows)
    assert run.metrics["problems"] == 1

    inputs = {"conversations": Artifact("conversations", ArtifactType.CONVERSATIONS, run.directory, "")}
    plain = make_run("plain")
    prompts.run(PromptsConfig(conversations="conversations", kind="talk", limit=2), inputs, plain)
    first, second = read_jsonl(plain.directory / "prompts.jsonl")
    assert (first["id"], first["kind"], first["meta"]["reference"]) == (rows[0]["id"], "talk", "A1")
    assert second["messages"] == rows[1]["messages"][:3]

    shuffled = [make_run("shuffled"), make_run("again")]
    for attempt in shuffled:
        prompts.run(PromptsConfig(conversations="conversations", shuffle=True), inputs, attempt)
    one, two = ((attempt.directory / "prompts.jsonl").read_bytes() for attempt in shuffled)
    assert one == two
    order = [row["id"] for row in read_jsonl(shuffled[0].directory / "prompts.jsonl")]
    assert order != [row["id"] for row in rows]
    assert sorted(order) == sorted(row["id"] for row in rows)


def test_prompts_need_something_answered(tmp_path: Path, make_run: MakeRun) -> None:
    (tmp_path / "conversations.jsonl").write_text('{"id": "x", "messages": [{"role": "assistant", "content": "A"}]}\n')
    inputs = {"conversations": Artifact("c", ArtifactType.CONVERSATIONS, tmp_path, "")}
    with pytest.raises(DataError, match="no conversation has a turn before"):
        prompts.run(PromptsConfig(conversations="c"), inputs, make_run("prompts"))


def test_preferences(tmp_path: Path, make_run: MakeRun) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"Q{n}", "chosen": "A", "rejected": "B"} for n in range(40)]
    rows += [{"prompt": "Q", "responses": ["A", "B", "C"], "ranks": [1, 2, 2], "annotator": "ann", "reason": "why"}]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = make_run("preferences")
    preferences.run(PreferencesConfig(path=str(tmp_path / "pairs.jsonl"), validation_share=0.3), {}, run)
    stored = list(read_jsonl(run.directory / "preferences.jsonl"))
    assert len(stored) == 42
    assert stored[-1] | {"id": "", "split": ""} == {
        "id": "",
        "prompt": [{"role": "user", "content": "Q"}],
        "chosen": "A",
        "rejected": "C",
        "kind": "preference",
        "annotator": "ann",
        "shown": [],
        "reason": "why",
        "weight": pytest.approx(1 / 3),
        "split": "",
    }
    assert run.metrics["pairs/train"] + run.metrics["pairs/validation"] == run.metrics["pairs"] == 42
    assert run.metrics["pairs/validation"] > 0
    assert stored[-1]["split"] == stored[-2]["split"]


def test_ties_and_repeats_of_rankings_are_counted_and_strengths_are_kept(tmp_path: Path, make_run: MakeRun) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "Q", "responses": ["A", "B", "C"], "ranks": [1, 2, 2], "weight": 0.5},
        {"prompt": "Q", "responses": ["A", "A", "B"], "ranks": [1, 2, 3]},
        {"prompt": "Q", "chosen": "A", "rejected": "B", "chosen_rating": 4, "rejected_rating": 1, "probability": 0.9},
        {"prompt": "Q", "chosen": "A", "rejected": "B", "probability": 7},
        {"prompt": "Q", "responses": ["A", "B", "C"], "ranks": [1, 2, 3], "margin": 3},
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = make_run("preferences")
    preferences.run(PreferencesConfig(path=str(tmp_path / "pairs.jsonl"), validation_share=0.0), {}, run)
    stored = list(read_jsonl(run.directory / "preferences.jsonl"))
    assert [row["weight"] for row in stored] == pytest.approx([1 / 6, 1 / 6, 1])
    assert (stored[-1]["margin"], stored[-1]["probability"]) == (3, 0.9)
    assert (run.metrics["pairs"], run.metrics["ties"], run.metrics["problems"]) == (3, 1, 3)
    assert any("a ranking has one `margin` for all its pairs" in note for note in run.notes)
    assert "1 pairs of rankings are ties and were left out" in run.notes


def test_labelled_replies_are_kept_counted_and_told_from_pairs(tmp_path: Path, make_run: MakeRun) -> None:
    rows = [{"prompt": "Q", "completion": "A", "label": label} for label in (True, False, "maybe", 5)]
    (tmp_path / "kto.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = make_run("preferences")
    preferences.run(PreferencesConfig(path=str(tmp_path / "kto.jsonl")), {}, run)
    assert [row["label"] for row in read_jsonl(run.directory / "preferences.jsonl")] == [True, False]
    assert (run.metrics["pairs"], run.metrics["labelled"], run.metrics["problems"]) == (0, 2, 2)
    assert any("the stage `kto` learns from them" in note for note in run.notes)
