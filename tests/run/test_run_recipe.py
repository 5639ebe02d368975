"""Execution: what runs, what is skipped, and the reasons given."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from toy_stages import RECIPE, TOYS, checksums, run_toy

import tutelage
from tutelage.errors import ArtifactError, DataError
from tutelage.run.graph import build_graph, select
from tutelage.run.manifest import read_manifest
from tutelage.run.recipe import load_recipe, read_recipe
from tutelage.run.request import make_request, missing_paths
from tutelage.run.status import survey

WIDE = """\
name: toy
stages:
  raw: {stage: gather}
  corpus: {stage: clean, documents: raw}
  halves: {stage: halves, corpus: corpus}
  left: {stage: clean, documents: halves.left}
  right: {stage: clean, documents: halves.right}
"""


def reason(said: list[str], stage: str) -> str:
    return next(line for line in said if line.startswith(f"▶ {stage} ")).partition(": ")[2]


def test_a_run_writes_what_the_architecture_says(tmp_path: Path) -> None:
    outcome, said = run_toy(tmp_path / "run")
    assert outcome.ran == ("raw", "corpus", "base", "report")
    assert sorted(p.name for p in (tmp_path / "run").iterdir() if p.name[0] != ".") == [
        *("base", "corpus", "raw", "recipe.yaml", "report", "run.json")
    ]
    assert sorted(p.name for p in (tmp_path / "run/base").iterdir()) == [
        *("config.json", "journal.jsonl", "manifest.json", "model.safetensors")
    ]
    assert "  ! dropped 2 repeated lines" in said
    made = read_manifest(tmp_path / "run/base")
    assert [output.path for output in made.outputs] == ["config.json", "model.safetensors"]
    assert made.inputs["corpus"].path == "../corpus"
    assert made.inputs["corpus"].fingerprint == read_manifest(tmp_path / "run/corpus").fingerprint
    assert made.metrics == {"validation/loss": 0.25, "broken": "nan"}
    assert {"python", "torch", "tutelage"} <= made.versions.keys()
    if os.access("/proc/self/clear_refs", os.W_OK):
        assert (made.peak_memory or 0) > 1_000_000


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    run_toy(tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*.*") if p.parent.name != "run"}
    outcome, said = run_toy(tmp_path / "run")
    assert outcome.ran == ()
    assert said == [f"· {name}: up to date" for name in outcome.graph.order]
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_equal_recipes_give_equal_bytes(tmp_path: Path) -> None:
    run_toy(tmp_path / "a")
    run_toy(tmp_path / "b")
    assert checksums(tmp_path / "a") == checksums(tmp_path / "b")


def test_the_saved_recipe_is_whole_and_equal(tmp_path: Path) -> None:
    outcome, _ = run_toy(tmp_path / "run", "base.steps=2")
    assert load_recipe(tmp_path / "run/recipe.yaml", TOYS).stages == outcome.graph.recipe.stages


def test_sentences_for_people_make_nothing_stale(tmp_path: Path) -> None:
    run_toy(tmp_path / "run")
    assert run_toy(tmp_path / "run", "raw.needs=ask Ann", "description=better")[0].ran == ()


@pytest.mark.parametrize(
    ("override", "stage", "expected"),
    [
        ("base.learning_rate=6e-4", "base", "learning_rate 0.0003 → 0.0006"),
        ("base.model.hidden_size=32", "base", "model.hidden_size 16 → 32"),
        ("base.shuffle=false", "base", "shuffle true → false"),
        ("raw.text=other words", "corpus", "input documents (raw) changed"),
        ("raw.text=other words", "base", "input corpus changed"),
        ("report.also=[raw]", "report", "also.0 not set → raw"),
    ],
)
def test_reasons_in_words(tmp_path: Path, override: str, stage: str, expected: str) -> None:
    run_toy(tmp_path / "run")
    _, said = run_toy(tmp_path / "run", override)
    assert reason(said, stage) == expected


def test_a_new_seed_reaches_the_stages_whose_seed_is_derived(tmp_path: Path) -> None:
    run_toy(tmp_path / "run", "base.seed=5")
    outcome, said = run_toy(tmp_path / "run", "base.seed=5", "seed=9")
    assert reason(said, "raw").startswith("seed ")
    assert outcome.skipped == ("base",)  # the same words came out, and base has its own seed


def test_many_differences_are_summed_up(tmp_path: Path) -> None:
    run_toy(tmp_path / "run")
    changes = ("base.learning_rate=1", "base.steps=3", "base.shuffle=false", "base.model.hidden_size=1", "base.seed=1")
    _, said = run_toy(tmp_path / "run", *changes)
    assert reason(said, "base").endswith("and 2 more")


def test_another_version_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_toy(tmp_path / "run")
    monkeypatch.setattr(tutelage, "__version__", "9.0")
    _, said = run_toy(tmp_path / "run")
    assert reason(said, "raw") == "tutelage 0.1.0 → 9.0"


def test_the_same_bytes_make_nothing_after_them_stale(tmp_path: Path) -> None:
    run_toy(tmp_path / "run")
    outcome, _ = run_toy(tmp_path / "run", "raw.lines=2")  # the distinct lines stay the same
    assert outcome.ran == ("raw", "corpus")
    assert outcome.skipped == ("base", "report")


def test_only_the_output_that_changed_makes_its_takers_stale(tmp_path: Path) -> None:
    run_toy(tmp_path / "run", text=WIDE)
    outcome, _ = run_toy(tmp_path / "run", "halves.right=new", text=WIDE)
    assert outcome.ran == ("halves", "right")


def test_from_runs_a_stage_and_all_that_depend_on_it(tmp_path: Path) -> None:
    run_toy(tmp_path / "run")
    before = checksums(tmp_path / "run")
    outcome, said = run_toy(tmp_path / "run", start=["base"])
    assert outcome.ran == ("base", "report")
    assert reason(said, "base") == "asked by --from"
    assert checksums(tmp_path / "run") == before


def test_only_needs_inputs_that_are_up_to_date(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="stage raw is not up to date, and a selected stage needs it: never run"):
        run_toy(tmp_path / "run", only=["corpus"])
    assert run_toy(tmp_path / "run", only=["raw", "corpus"])[0].ran == ("raw", "corpus")
    assert run_toy(tmp_path / "run", only=["base"])[0].ran == ("base",)
    with pytest.raises(ArtifactError, match="lines 3 → 2"):
        run_toy(tmp_path / "run", "raw.lines=2", only=["base"])


def _flip(path: Path) -> None:
    path.write_bytes(b"?" + path.read_bytes()[1:])


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda base: _flip(base / "model.safetensors"), "model.safetensors has another checksum: expected sha256"),
        (lambda base: (base / "model.safetensors").write_text("x"), "model.safetensors has 1 bytes, expected 64"),
        (lambda base: (base / "model.safetensors").unlink(), "model.safetensors is missing (64 bytes expected)"),
        (lambda base: (base / "manifest.json").write_text('{"name": "ba'), "manifest.json is half-written or damaged"),
        (lambda base: (base / "manifest.json").write_text("{}"), "manifest.json is half-written or damaged"),
        (lambda base: (base / "manifest.json").unlink(), "manifest.json is missing"),
    ],
)
def test_damaged_artifacts_are_refused_as_input_and_made_anew_by_a_whole_run(
    tmp_path: Path, damage: object, expected: str
) -> None:
    run_toy(tmp_path / "run")
    before = checksums(tmp_path / "run")
    assert callable(damage)
    damage(tmp_path / "run/base")
    with pytest.raises(ArtifactError) as caught:
        run_toy(tmp_path / "run", only=["report"])
    assert "stage base is damaged" in caught.value.message
    assert expected in caught.value.message
    assert caught.value.hint
    outcome, said = run_toy(tmp_path / "run")
    assert outcome.ran == ("base",)
    assert reason(said, "base").startswith("outputs damaged: ")
    assert expected in reason(said, "base")
    assert checksums(tmp_path / "run") == before


def test_external_data_is_part_of_what_a_stage_is_made_from(tmp_path: Path) -> None:
    text = tmp_path / "words.txt"
    text.write_text("alpha")
    path = f"raw.path={text}"
    run_toy(tmp_path / "run", path)
    assert run_toy(tmp_path / "run", path)[0].ran == ()
    text.write_text("beta")
    _, said = run_toy(tmp_path / "run", path)
    assert reason(said, "raw") == "data path changed"
    text.unlink()  # what was read from it is still good
    assert run_toy(tmp_path / "run", path)[0].ran == ()


def test_missing_data_is_told_before_anything_runs(tmp_path: Path) -> None:
    needs = "needs: [fetch words.txt from the shelf]\n"
    recipe = (
        RECIPE.replace("stages:", needs + "stages:")
        + "  more: {stage: gather, path: nowhere/words.txt, needs: ask Ann}\n"
    )
    with pytest.raises(DataError) as caught:
        run_toy(tmp_path / "run", text=recipe)
    message = str(caught.value)
    assert "toy.yaml:12: stages.more.path: no such file or folder: nowhere/words.txt" in message
    assert "fetch words.txt from the shelf" in message
    assert "ask Ann" in message
    assert "more.path=PATH" in message
    assert not (tmp_path / "run/raw").exists()


def test_paths_of_data_are_understood_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    for path, sentence in (
        (str(tmp_path / "empty"), "the folder holds no files"),
        ("~nobody-of-this-name/words.txt", "no such file or folder"),
    ):
        with pytest.raises(DataError, match=sentence):
            run_toy(tmp_path / "run", f"raw.path={path}")
    folder = tmp_path / "notes"
    (folder / ".git").mkdir(parents=True)
    (folder / "words.txt").write_text("alpha")
    (folder / ".git" / "index").write_text("1")
    monkeypatch.setenv("NOTES_OF_A_TEST", str(folder))
    raw = read_recipe(RECIPE, "toy.yaml", TOYS, ["raw.path=$NOTES_OF_A_TEST"]).stages["raw"]
    assert missing_paths(raw) == []
    before = make_request(raw, 0, {}).data
    (folder / ".git" / "index").write_text("2")  # readers pass over hidden files
    assert make_request(raw, 0, {}).data == before


def test_a_folder_of_another_recipe(tmp_path: Path) -> None:
    run_toy(tmp_path / "run")
    with pytest.raises(ArtifactError, match="belongs to the recipe 'toy', not to 'other'"):
        run_toy(tmp_path / "run", "name=other")


def test_a_folder_that_is_no_run_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="not a run folder and is not empty"):
        run_toy(tmp_path)
    assert (tmp_path / "base/thesis.txt").exists()


def test_a_damaged_run_file(tmp_path: Path) -> None:
    run_toy(tmp_path / "run")
    (tmp_path / "run/run.json").write_text('{"recipe": ')
    with pytest.raises(ArtifactError, match=r"run\.json is damaged"):
        run_toy(tmp_path / "run")


def test_threads_stay_those_of_the_first_run(tmp_path: Path) -> None:
    run_toy(tmp_path / "run", "threads=1")
    _, said = run_toy(tmp_path / "run", "threads=2", "base.steps=2")
    assert "! 1 threads, as when this run began (asked for: 2)" in said
    assert read_manifest(tmp_path / "run/base").threads == 1


def test_threads_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_THREADS", "1")
    run_toy(tmp_path / "run")
    assert json.loads((tmp_path / "run/run.json").read_text())["threads"] == 1


def test_a_stage_that_writes_nothing_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="without writing its output"):
        run_toy(tmp_path / "run", text="name: toy\nstages: {a: {stage: silent}}")


def test_the_survey_tells_what_would_run_and_changes_nothing(tmp_path: Path) -> None:
    def states(*overrides: str) -> dict[str, tuple[str, str]]:
        graph = build_graph(read_recipe(RECIPE, "toy.yaml", TOYS, overrides), TOYS)
        return {s.name: (s.state, s.reason) for s in survey(graph, tmp_path / "run", select(graph))}

    assert set(states().values()) == {("not run", "never run")}
    assert not (tmp_path / "run").exists()
    run_toy(tmp_path / "run")
    assert set(states().values()) == {("done", "")}
    found = states("corpus.style=fancy")
    assert found["raw"] == ("done", "")
    assert found["corpus"] == ("stale", "style plain → fancy")
    assert found["base"] == ("stale", "after corpus (skipped if that comes out the same)")
    with pytest.raises(DataError):
        run_toy(tmp_path / "run", "base.stop_at=3")
    assert states("base.stop_at=3")["base"] == ("partial", "stop_at null → 3; stopped after step 3")
