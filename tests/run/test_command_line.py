"""The command line, with toy stages in the place of the real ones."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from toy_stages import RECIPE, RUN, TOYS
from typer.testing import CliRunner, Result

import tutelage.stages
from tutelage.cli import COMMANDS, build_app


@pytest.fixture(autouse=True)
def _toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tutelage.stages, "STAGES", TOYS, raising=False)
    for kind, function in RUN.items():
        monkeypatch.setitem(sys.modules, f"tutelage.stages.{kind}", SimpleNamespace(run=function))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/toy.yaml").write_text(RECIPE)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(build_app(), list(arguments))


@pytest.mark.parametrize("arguments", [["run", "--help"], ["stages"], ["schema"]])
def test_help_and_lists_import_nothing_heavy(arguments: list[str]) -> None:
    script = (
        f"import sys; sys.argv = ['tutelage', *{arguments}]\n"
        "from tutelage.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'numpy', 'pyarrow', 'tokenizers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_real_ctrl_c_in_the_middle_of_a_stage() -> None:
    script = (
        f"import sys, types; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import toy_stages, tutelage.stages\n"
        "tutelage.stages.STAGES = toy_stages.TOYS\n"
        "for kind, run in toy_stages.RUN.items():\n"
        "    sys.modules[f'tutelage.stages.{kind}'] = types.SimpleNamespace(run=run)\n"
        "sys.argv = ['tutelage', 'run', 'toy', 'base.pause=0.2']\n"
        "from tutelage.cli import main\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while not Path("runs/toy/base.partial/scratch/checkpoint.json").exists():
        assert time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130
    assert errors == ""
    assert "! interrupted in base. Kept: raw, corpus.\n" in output
    assert "✓ base" in call("run", "toy", "base.pause=0").output


def test_every_command_has_help_and_examples() -> None:
    root = call("--help").output
    for name in COMMANDS:
        assert name in root
        assert f"tutelage {name}" in call(name, "--help").output


def test_run_ends_with_where_to_look_next() -> None:
    done = call("run", "toy", "base.learning_rate=1e-3")
    assert done.exit_code == 0, done.output
    assert "✓ 4 ran, 0 up to date" in done.output
    assert "report   runs/toy/report/report.html" in done.output
    assert "talk     tutelage chat runs/toy/base" in done.output
    assert "everything is up to date" in call("run", "recipes/toy.yaml", "base.learning_rate=1e-3").output


def test_errors_have_no_traceback() -> None:
    done = call("run", "toy", "base.leraning_rate=1")
    assert done.exit_code == 2
    assert "error: override 'base.leraning_rate=1': stages.base.leraning_rate: unknown key" in done.stderr
    assert "→ `tutelage schema STAGE`" in done.stderr
    assert "Traceback" not in done.output
    assert "there is no recipe 'tyo'; did you mean toy?" in call("run", "tyo").stderr


def test_ctrl_c_exits_130() -> None:
    done = call("run", "toy", "base.interrupt_at=2")
    assert done.exit_code == 130
    assert "Run the same command to go on" in done.output


def test_dry_run_says_what_and_why_and_writes_nothing() -> None:
    done = call("run", "toy", "--dry-run")
    assert done.exit_code == 0
    assert "never run" in done.output
    assert not Path("runs").exists()
    call("run", "toy")
    done = call("run", "toy", "corpus.style=fancy", "--dry-run")
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in done.output.splitlines()}
    assert rows["raw"] == "gather up to date"
    assert rows["corpus"] == "clean raw would run style plain → fancy"
    assert rows["base"] == "train corpus would run after corpus (skipped if that comes out the same)"
    forced = call("run", "toy", "--from", "base", "--dry-run").output
    assert "asked by --from" in forced
    assert "not selected" in forced


def test_only() -> None:
    assert call("run", "toy", "--only", "base").exit_code == 2
    assert call("run", "toy", "--only", "raw", "--only", "corpus", "--run-dir", "elsewhere").exit_code == 0
    assert sorted(path.parent.name for path in Path("elsewhere").glob("*/manifest.json")) == ["corpus", "raw"]


def test_status() -> None:
    assert "is not a run folder" in call("status", "toy").stderr
    call("run", "toy", "base.stop_at=2")
    rows = {line.split()[0]: line.split()[2:] for line in call("status", "toy").output.splitlines()}
    assert rows["corpus"][0] == "done"
    assert rows["base"] == ["partial", "never", "run;", "stopped", "after", "step", "2"]
    assert rows["report"][:2] == ["not", "run"]
    found = json.loads(call("status", "runs/toy", "--json").stdout)
    assert [row["state"] for row in found["stages"]] == ["done", "done", "partial", "not run"]


def test_lineage_and_report() -> None:
    call("run", "toy", "--only", "raw")
    assert "has no report yet" in call("report", "toy").stderr
    call("run", "toy")
    assert call("report", "toy").output.strip() == "runs/toy/report/report.html"
    assert "base  Model" in call("lineage", "toy").output
    assert json.loads(call("lineage", "runs/toy/base", "--json").stdout)[0]["stage"] == "train"


def test_stages_and_schema() -> None:
    listed = call("stages").output
    assert "corpus: Corpus|Documents" in listed
    assert "left: Documents, right: Documents" in listed
    schema = json.loads(call("schema").stdout)
    assert schema["properties"]["stages"]["additionalProperties"]["properties"]["stage"]["enum"] == list(TOYS)
    own = json.loads(call("schema", "train").stdout)
    assert own["properties"]["corpus"]["description"] == "a stage (or stage.output) that gives Corpus or Documents"
    assert own["required"] == ["stage", "corpus"]
    assert "did you mean train?" in call("schema", "trian").stderr
