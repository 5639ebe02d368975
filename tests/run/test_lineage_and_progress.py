"""Where an artifact came from, and what a run shows."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from toy_stages import RECIPE, run_toy

from tutelage.errors import ArtifactError
from tutelage.run.lineage import draw, lineage
from tutelage.run.manifest import read_manifest
from tutelage.run.progress import Terminal, format_seconds


def test_a_runs_lineage_reaches_the_raw_data(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("alpha")
    run_toy(tmp_path / "run", f"raw.path={words}", "report.base=base")
    lines = list(draw(lineage(tmp_path / "run")))
    assert [line.lstrip("│├└─ ").split("  ")[0] for line in lines] == [
        *("report", "models.base: base", "corpus", "documents: raw", "data path", "base")
    ]
    assert lines[0].startswith("report  Report  ")
    assert lines[-1].endswith("(as above)")
    base = read_manifest(tmp_path / "run/base")
    assert f"Model  {base.fingerprint[:8]}  ← train (seed {base.seed})  validation/loss 0.25" in lines[1]


def test_the_lineage_of_one_model_as_json(tmp_path: Path) -> None:
    run_toy(tmp_path / "run")
    (tree,) = [node.to_json() for node in lineage(tmp_path / "run/base")]
    assert json.loads(json.dumps(tree)) == tree
    assert tree["artifact"] == "base"
    assert tree["inputs"]["corpus"]["inputs"]["documents"]["artifact"] == "raw"


def test_the_lineage_of_one_of_several_outputs(tmp_path: Path) -> None:
    run_toy(tmp_path / "run", text=RECIPE + "  halves: {stage: halves, corpus: corpus}\n")
    assert [node.name for node in lineage(tmp_path / "run/halves/left")] == ["halves.left"]
    assert [node.name for node in lineage(tmp_path / "run/halves")] == ["halves.left", "halves.right"]


def test_an_input_that_was_made_again_since_is_marked(tmp_path: Path) -> None:
    run_toy(tmp_path / "run")
    old = read_manifest(tmp_path / "run/base").fingerprint
    run_toy(tmp_path / "run", "base.steps=2", only=["base"])
    assert f"[was {old[:8]} when it was used" in "\n".join(draw(lineage(tmp_path / "run")))


def test_no_lineage(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="neither a run folder"):
        lineage(tmp_path)
    run_toy(tmp_path / "run")
    (tmp_path / "run/raw/manifest.json").unlink()
    with pytest.raises(ArtifactError, match="the lineage of corpus is broken"):
        lineage(tmp_path / "run")


def test_a_log_gets_few_lines_and_one_at_the_end() -> None:
    stream = io.StringIO()
    terminal = Terminal(Console(file=stream, width=120))
    with terminal.progress("base", 200) as bar:
        for step in range(200):
            bar.advance(1, loss=1 / (step + 1))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("  · base  200/200  ")
    assert lines[0].endswith("loss 0.005")


def test_a_log_gets_a_line_when_time_has_passed() -> None:
    stream = io.StringIO()
    with Terminal(Console(file=stream, width=120), line_every=0).progress("base", 4) as bar:
        bar.advance()
        bar.advance()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "  · base  1/4"  # no rate is known yet
    assert lines[1].startswith("  · base  2/4  ")
    assert lines[1].endswith(" left")


def test_what_an_earlier_attempt_did_is_not_in_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("tutelage.run.progress.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    with Terminal(Console(file=stream, width=120), line_every=10).progress("base", 440) as bar:
        bar.advance(320)  # resumed
        clock[0] += 10
        bar.advance(5)
    assert stream.getvalue().splitlines()[0] == "  · base  325/440  0.5/s  3:50 left"


def test_two_bars_share_a_terminal() -> None:
    stream = io.StringIO()
    terminal = Terminal(Console(file=stream, width=120, force_terminal=True))
    with terminal.progress("outer", 2) as outer, terminal.progress("inner", None) as inner:
        outer.advance(1, loss=0.5)
        inner.advance(3)
        terminal.say("! a note [in brackets]")
    shown = stream.getvalue()
    assert "outer" in shown
    assert "inner" in shown
    assert "loss 0.5" in shown
    assert "a note [in brackets]" in shown


def test_seconds() -> None:
    assert [format_seconds(s) for s in (8.24, 185, 7385)] == ["8.2 s", "3:05", "2:03:05"]


def test_a_sentence_cannot_steer_the_terminal() -> None:
    out = io.StringIO()
    Terminal(Console(file=out, force_terminal=True, color_system=None)).say("! a key named \x1b]0;gotcha\x07")
    assert out.getvalue() == "! a key named ␛]0;gotcha␇\n"
