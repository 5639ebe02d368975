"""`verify`: what holds is said to hold, and every planted fault is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tutelage.cli import build_app
from tutelage.errors import ArtifactError
from tutelage.run.artifacts import ArtifactType
from tutelage.run.execute import run_recipe
from tutelage.run.files import digest
from tutelage.run.graph import build_graph
from tutelage.run.manifest import Manifest, artifact_records, measure_outputs, read_manifest, write_manifest
from tutelage.run.recipe import load_recipe, read_recipe
from tutelage.stages import STAGES
from tutelage.verification.data import verify_data
from tutelage.verification.export import verify_export
from tutelage.verification.finding import Finding
from tutelage.verification.resume import compare_runs, compared_stages, verify_resume
from tutelage.verification.scale import small_overrides

RECIPE = """
name: small
threads: 1
stages:
  atlas: {stage: atlas, facts: 44, documents_per_entity: 2, conversations: 20, prompts: 10}
  corpus: {stage: curate, documents: atlas.documents}
"""
RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "small"
    run_recipe(read_recipe(RECIPE, "small.yaml", STAGES), STAGES, run_dir=run)
    return run


@pytest.fixture
def run(curated: Path, tmp_path: Path) -> Path:
    return shutil.copytree(curated, tmp_path / "run")


def failing(findings: Iterator[Finding]) -> set[str]:
    return {one.claim for one in findings if one.verdict == "fails"}


def sign(stage: Path, **changes: Any) -> None:
    """Write the manifest anew, as if the stage itself had made the files so."""
    manifest = read_manifest(stage)
    outputs = measure_outputs(stage)
    records = artifact_records(manifest.name, {name: one.type for name, one in manifest.artifacts.items()}, outputs)
    update = {"outputs": outputs, "artifacts": records, **changes}
    write_manifest(stage, manifest.model_copy(update=update))


def test_a_curated_corpus_is_conserved(run: Path) -> None:
    findings = list(verify_data(run))
    assert {one.verdict for one in findings} == {"holds"}
    assert len(findings) == 8
    done = CliRunner().invoke(build_app(), ["verify", "data", str(run)])
    assert (done.exit_code, "8 holds" in done.output) == (0, True)


def test_a_changed_file_is_found(run: Path) -> None:
    with (run / "corpus/curation.json").open("a") as file:
        file.write(" ")
    assert failing(verify_data(run)) == {"checksums"}
    done = CliRunner().invoke(build_app(), ["verify", "data", str(run), "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)[0]["verdict"] == "fails"


def test_a_lost_document_is_found(run: Path) -> None:
    path = run / "corpus/documents.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    sign(run / "corpus")
    assert failing(verify_data(run)) == {"in = kept + removed", "what was kept is the corpus, in order"}


def test_a_removal_without_reason_and_a_lost_row_are_found(run: Path) -> None:
    path = run / "corpus/decisions.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    removed = next(number for number, row in enumerate(rows) if not row["kept"])
    rows[removed]["rule"] = None
    pq.write_table(table.from_pylist(rows, schema=table.schema), path)
    sign(run / "corpus")
    assert failing(verify_data(run)) == {"every removal names its rule"}
    del rows[removed]
    pq.write_table(table.from_pylist(rows, schema=table.schema), path)
    sign(run / "corpus")
    assert {"in = kept + removed", "decisions row by row with the input"} <= failing(verify_data(run))


def test_an_input_made_again_is_not_checked(run: Path) -> None:
    path = run / "atlas/documents/documents.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    sign(run / "atlas")
    skipped = [one for one in verify_data(run) if one.verdict == "not checked"]
    assert "made again since" in skipped[0].detail


def model_run(folder: Path, model: Path) -> Path:
    """A run folder with one published model."""
    (folder / "base").mkdir(parents=True)
    (folder / "run.json").write_text('{"recipe": "x", "threads": 1}')
    for file in model.iterdir():
        shutil.copy(file, folder / "base")
    outputs = measure_outputs(folder / "base")
    now = datetime.now(UTC).isoformat()
    manifest = Manifest(
        name="base",
        stage="pretrain",
        key="",
        config={},
        seed=0,
        inputs={},
        data={},
        fingerprint=digest([]),
        artifacts=artifact_records("base", {"": ArtifactType.MODEL}, outputs),
        metrics={},
        notes=[],
        outputs=outputs,
        started=now,
        finished=now,
        seconds=0,
        attempts=1,
        versions={},
        host="",
        threads=1,
        hardware={},
    )
    write_manifest(folder / "base", manifest)
    return folder


def test_a_model_loads_again_to_the_same_bits(model: Path, tmp_path: Path) -> None:
    run = model_run(tmp_path / "run", model)
    findings = list(verify_export(run))
    assert {one.verdict for one in findings} <= {"holds", "not checked"}
    assert len(findings) == 6
    chat = CliRunner().invoke(build_app(), ["chat", str(run / "base"), "--max-tokens", "2"], input="hi\n")
    assert "is a base model" in chat.stderr
    assert "tutelage complete" in chat.stderr


def test_faulty_exports_are_found(model: Path, tmp_path: Path) -> None:
    run = model_run(tmp_path / "run", model)
    config = json.loads((run / "base/config.json").read_text())
    (run / "base/config.json").write_text(json.dumps(config))
    assert failing(verify_export(run)) == {"checksums"}
    with_other_layout = CliRunner().invoke(build_app(), ["chat", str(run / "base")], input="hi\n")
    assert "config.json has" in with_other_layout.stderr
    sign(run / "base")
    assert failing(verify_export(run)) == {"loads again to the same bits"}
    tokens = json.loads((run / "base/tokenizer_config.json").read_text())
    tokens["chat_template"] = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    (run / "base/tokenizer_config.json").write_text(json.dumps(tokens))
    sign(run / "base")
    assert "chat template" in failing(verify_export(run))


def test_runs_are_compared_file_by_file(run: Path) -> None:
    manifest = read_manifest(run / "corpus")
    other = manifest.model_copy(update={"outputs": manifest.outputs[1:], "attempts": 2})
    timed = manifest.model_copy(update={"records_time": True})
    whole, killed = {"a": manifest, "b": manifest, "c": timed}, {"a": manifest, "b": other, "c": other}
    findings = list(compare_runs(whole, killed, 1))
    assert [one.verdict for one in findings] == ["holds", "fails", "not checked", "holds"]
    assert manifest.outputs[0].path in findings[1].detail


@pytest.mark.parametrize(
    ("name", "report"),
    [("quickstart", "report"), ("preference-methods", "comparison"), ("distill", "distillation")],
)
def test_the_small_copy_of_a_recipe_is_a_recipe(name: str, report: str) -> None:
    path = RECIPES / f"{name}.yaml"
    recipe = load_recipe(path, STAGES)
    small = load_recipe(path, STAGES, list(small_overrides(recipe, 2, "float32")))
    graph = build_graph(small, STAGES)
    assert small.threads == 2
    chosen = compared_stages(graph)
    assert set(graph.order) - set(chosen) == {report}
    for name in small.stages.keys() & {"base", "instruct", "dpo", "student-base", "student"}:
        values = small.stages[name].model_dump()
        assert values["num_steps"] <= 8
        assert values["loop"]["checkpoint_seconds"] == 0
        assert values["precision"] == "float32"


def test_a_copy_that_cannot_run_shows_why(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"stopped with exit code 2:\n.*no_such_key"):
        list(verify_resume(run, STAGES, tmp_path / "copy", kills=1, seed=0, overrides=["corpus.no_such_key=1"]))


@pytest.mark.slow
def test_killed_runs_end_in_the_same_bytes(run: Path, tmp_path: Path) -> None:
    findings = list(verify_resume(run, STAGES, tmp_path / "copy", kills=2, seed=0))
    assert [one.verdict for one in findings] == ["holds", "holds", "holds"]
