from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tiny import model_artifact, tree_bytes
from tutelage.cli import build_app
from tutelage.errors import RecipeError, ResourceError
from tutelage.verification import benchmarks


def test_rows_are_found_and_unknown_ones_named() -> None:
    assert "generation" in [path.stem for path in benchmarks.benchmark_rows("rlhf", [])]
    assert [path.stem for path in benchmarks.benchmark_rows("rlhf", ["generation"])] == ["generation"]
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
    script.write_text("raise SystemExit(3)")
    with pytest.raises(ResourceError, match=r"row.py ended with 3"):
        benchmarks.run_row(script, 1, 1, shown.append)


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
