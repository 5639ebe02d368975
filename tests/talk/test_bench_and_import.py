from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from tiny import model_artifact, tree_bytes
from tutelage.cli import build_app
from tutelage.errors import RecipeError, ResourceError
from tutelage.verification import benchmarks


def test_rows_are_found_and_unknown_ones_named() -> None:
    rows = benchmarks.benchmark_rows("rlhf", [])
    assert [path.stem for path in rows] == ["dpo", "generation", "grpo", "ppo"]
    assert all('__name__ == "__main__"' in path.read_text() for path in rows), "shared modules are no rows"
    assert [path.stem for path in benchmarks.benchmark_rows("rlhf", ["generation"])] == ["generation"]
    assert [path.stem for path in benchmarks.benchmark_rows("serve", [])] == [
        "crowd",
        "llamacpp",
        "overhead",
        "throughput",
    ]
    with pytest.raises(RecipeError, match=r"there is no benchmark 'rlfh'.*rlhf"):
        benchmarks.benchmark_rows("rlfh", [])
    with pytest.raises(RecipeError, match=r"rlhf has no row 'generatoin'.*generation"):
        benchmarks.benchmark_rows("rlhf", ["generatoin"])


def test_rows_of_a_script_are_collected_and_its_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarks, "peers_python", lambda show: Path(sys.executable))
    script, shown = tmp_path / "row.py", []
    row = {"work": "w", "ratio": 2.0}
    script.write_text(f"print('on the way')\nprint('ROW ' + {json.dumps(row)!r})\n")
    assert benchmarks.run_row(script, 1, 1, shown.append) == [row]
    assert shown == ["on the way"]
    script.write_text("import sys; print(sys.argv[1:])")
    benchmarks.run_row(script, 2, 1, shown.append, quick=True)
    assert shown[-1] == str(["--rounds", "2", "--threads", "1", "--quick"])
    script.write_text(f"print('ROW ' + {json.dumps(row)!r}); raise SystemExit('the sides do not agree')")
    with pytest.raises(ResourceError, match=r"row.py ended with 1") as caught:
        benchmarks.run_row(script, 1, 1, shown.append)
    assert isinstance(caught.value, benchmarks.RowError)
    assert caught.value.rows == [row], "what was measured is not lost"


def test_a_row_has_packages_of_its_own_before_those_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[list[str]] = []

    def install(step: list[str]) -> None:
        installed.append(step)
        Path(step[step.index("--target") + 1]).mkdir()

    monkeypatch.setattr(benchmarks, "_install", install)
    monkeypatch.setattr(benchmarks, "peers_python", lambda show: python)
    python, script, shown = tmp_path / "bin" / "python", tmp_path / "row.py", []
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    script.write_text("import os; print(os.environ['PYTHONPATH'].split(os.pathsep)[0])")
    script.with_suffix(".txt").write_text("peer==1.0\n")
    for _ in range(2):
        benchmarks.run_row(script, 1, 1, shown.append)
    assert len(installed) == 1, "once"
    assert "--no-deps" in installed[0]
    assert shown[0] == "installing peer==1.0 for row …"
    assert Path(shown[1]).parent == tmp_path
    assert shown[1] == shown[2]


def test_results_are_written_and_a_disagreement_fails_after_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_row(script: Path, rounds: int, threads: int, show: object, *, quick: bool) -> list[dict[str, object]]:
        row = {"work": script.stem, "peer": "p", "setting": "s", "unit": "u", "ours": 4.0, "theirs": 2.0, "ratio": 2.0,
               "asked": 3.0, "apart": {"loss": 0.02, "grad_norm": 0.001}, "versions": {"trl": "1"}}  # fmt: skip
        if script.stem == "dpo":
            raise benchmarks.RowError("dpo.py", 1, [row])
        return [row]

    monkeypatch.setattr(benchmarks, "run_row", run_row)
    path = tmp_path / "rows.json"
    arguments = ["bench", "rlhf", "--row", "dpo", "--row", "ppo", "--quick", "--json", str(path)]
    done = CliRunner().invoke(build_app(), arguments)
    assert done.exit_code == 2
    assert "dpo.py ended with 1" in done.output
    found = json.loads(path.read_text())
    assert [row["work"] for row in found["rows"]] == ["dpo", "ppo"]
    assert found["settings"] == {"rounds": 3, "threads": 1, "quick": True}
    assert found["hardware"]


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(benchmarks.CHECKOUT / "benchmarks"))
    return importlib.import_module("sides")


def test_sides_that_do_not_agree_end_the_row(sides: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    apart = sides.gaps({"loss": 0.505, "grad_norm": 2.0}, {"loss": 0.5, "grad_norm": 2.0})
    assert apart == pytest.approx({"loss": 0.01, "grad_norm": 0.0})
    sides.equal_or_exit({"loss": 0.009, "grad_norm": 0.0})
    assert "agree within 1%" in capsys.readouterr().out
    for gap in (0.011, math.nan):
        with pytest.raises(SystemExit, match="do not agree within 1%: loss by"):
            sides.equal_or_exit({"loss": gap, "grad_norm": 0.0})


def test_the_quickest_setting_of_the_peer_is_taken_and_a_failure_named(
    sides: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> float:
        raise RuntimeError

    settings = {"slow": lambda: 2.0, "quick": lambda: 1.0, "broken": fails}
    assert sides.best_setting(settings, cost=lambda run: run()) == "quick"
    assert "broken: RuntimeError" in capsys.readouterr().out
    assert list(sides.a_few(settings, quick=True)) == ["slow", "quick"]
    with pytest.raises(SystemExit, match="no setting of the peer works"):
        sides.best_setting({"broken": fails})


def test_import_writes_a_folder_that_can_be_imported_again(tmp_path: Path) -> None:
    source = model_artifact(tmp_path / "source").path
    for origin, name in ((source, "one"), (tmp_path / "one", "two")):
        done = CliRunner().invoke(build_app(), ["import", str(origin), "--to", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        assert f"tutelage chat {tmp_path / name}" in done.output.replace("\n", "")
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two")
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    again = CliRunner().invoke(build_app(), ["import", str(source), "--to", str(tmp_path / "one")])
    assert again.exit_code == 2
