"""Kill it at any moment, fill the disk, start it twice: nothing is lost and the bytes are the same."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_stages import RECIPE, checksums, run_toy

import tutelage.run.publish as publication
from tutelage.errors import ArtifactError, DataError, ResourceError
from tutelage.run.journal import read_journal
from tutelage.run.manifest import Manifest, read_manifest

SCRIPT = Path(__file__).with_name("toy_stages.py")
SLOW = RECIPE.replace("stage: train", "stage: train\n    steps: 8\n    pause: 0.02")


def start(recipe: Path, run_dir: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(recipe), str(run_dir), *overrides]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while not condition.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_in_the_middle_it_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(SLOW)
    run_toy(tmp_path / "whole", text=SLOW)
    process = start(recipe, tmp_path / "run")
    wait_for(tmp_path / "run/base.partial/scratch/checkpoint.json", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "run/base").exists()
    outcome, said = run_toy(tmp_path / "run", text=SLOW)
    assert outcome.ran == ("base", "report")
    assert any(line.startswith("▶ base") and "goes on from its last checkpoint" in line for line in said)
    assert any("resumed after step" in line for line in said)
    assert checksums(tmp_path / "run") == checksums(tmp_path / "whole")
    assert [row["step"] for row in read_journal(tmp_path / "run/base/journal.jsonl")] == list(range(1, 9))
    assert read_manifest(tmp_path / "run/base").attempts == 2


def test_an_attempt_at_something_else_starts_afresh(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        run_toy(tmp_path / "run", "base.stop_at=3")
    _, said = run_toy(tmp_path / "run", "base.steps=5")
    assert not any("resumed" in line for line in said)
    run_toy(tmp_path / "whole", "base.steps=5")
    assert checksums(tmp_path / "run") == checksums(tmp_path / "whole")


def test_a_failed_stage_keeps_the_version_before(tmp_path: Path) -> None:
    run_toy(tmp_path / "run")
    before = checksums(tmp_path / "run")
    with pytest.raises(DataError):
        run_toy(tmp_path / "run", "base.stop_at=3")
    assert checksums(tmp_path / "run") == before


def test_ctrl_c_says_what_is_kept(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path / "run", "base.interrupt_at=2", say=said.append)
    assert said[-2:] == [
        "\n! interrupted in base. Kept: raw, corpus.",
        "! Run the same command to go on; base goes on from its last checkpoint.",
    ]


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("moment", range(10))
def test_a_kill_at_every_step_of_replacing_an_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Every file operation of a publication in turn is the one that does not happen any more."""
    run_toy(tmp_path / "run")
    run_toy(tmp_path / "whole", "base.steps=6")
    steps = 0

    def killing(operation: object) -> object:
        def call(*arguments: object) -> object:
            nonlocal steps
            steps += 1
            if steps > moment:
                raise Killed
            assert callable(operation)
            return operation(*arguments)

        return call

    with monkeypatch.context() as patch:
        begin = publication.publish

        def watched(directory: Path, manifest: Manifest) -> None:
            if directory.name == "base":
                for name in ("flush_tree", "write_manifest", "remove", "flush"):
                    patch.setattr(publication, name, killing(getattr(publication, name)))
                patch.setattr(Path, "rename", killing(Path.rename))
            begin(directory, manifest)
            patch.undo()  # this publication is over: the next stages are left alone

        patch.setattr("tutelage.run.execute.publish", watched)
        with contextlib.suppress(Killed):
            run_toy(tmp_path / "run", "base.steps=6")
    assert steps == min(moment + 1, 9)
    run_toy(tmp_path / "run", "base.steps=6")
    assert checksums(tmp_path / "run") == checksums(tmp_path / "whole")
    assert not [path for path in (tmp_path / "run").iterdir() if path.suffix in (".partial", ".old")]


def test_a_kill_while_old_checkpoints_are_deleted_leaves_nothing_to_resume_from(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        run_toy(tmp_path / "run", "base.stop_at=3")
    (tmp_path / "run/base.partial/stage.json").unlink()
    _, said = run_toy(tmp_path / "run", "base.stop_at=9")
    assert not any("resumed" in line for line in said)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught:
        run_toy(small_disk / "run", "base.fill_from=3")
    assert "the disk is full: could not write" in caught.value.message
    assert "MB free" in caught.value.message
    assert sorted(path.name for path in (small_disk / "run").glob("*/manifest.json")) == ["manifest.json"] * 2
    (small_disk / "run/base.partial/huge.bin").unlink()  # someone makes room
    bigger = "base.fill_from=null"
    run_toy(small_disk / "run", bigger)
    run_toy(tmp_path / "whole", bigger)
    assert checksums(small_disk / "run") == checksums(tmp_path / "whole")


def test_a_full_device(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(ResourceError, match="the disk is full"):
        run_toy(tmp_path / "run", "base.fill_from=2", "base.fill_path=/dev/full")
    assert (tmp_path / "run/corpus/manifest.json").exists()


def test_a_second_run_is_kept_out(tmp_path: Path) -> None:
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(SLOW)
    process = start(recipe, tmp_path / "run", "base.pause=0.5")
    wait_for(tmp_path / "run/base.partial/scratch/checkpoint.json", process)
    try:
        with pytest.raises(ArtifactError, match=f"in use by another `tutelage run` \\(process {process.pid}\\)"):
            run_toy(tmp_path / "run", text=SLOW)
    finally:
        process.kill()
        process.communicate()
    run_toy(tmp_path / "run", text=SLOW)  # a dead process holds nothing
