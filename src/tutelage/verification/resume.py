"""Resume: a run that is killed again and again ends in the bytes of a run never stopped."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tutelage.errors import ArtifactError
from tutelage.run.folder import RECIPE_FILE, read_run, saved_recipe
from tutelage.run.graph import Graph, build_graph
from tutelage.run.lineage import published
from tutelage.run.manifest import Manifest
from tutelage.run.recipe import Specs
from tutelage.verification.finding import Finding, finding, unchecked
from tutelage.verification.scale import measured_dtype, small_overrides

_COMMAND = "import sys; from tutelage.cli import main; sys.argv[0] = 'tutelage'; main()"
SAME = "same bytes"
_EARLIEST = 0.3  # seconds; before that Python itself is still starting


def verify_resume(
    run: Path,
    specs: Specs,
    place: Path,
    *,
    kills: int,
    seed: int,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = lambda sentence: None,
) -> Iterator[Finding]:
    """Run a small copy of the run's recipe in `place` twice, once with `kills` SIGKILLs at random moments, and compare.

    Raises ArtifactError when the small copy cannot run at all.
    """
    recipe = saved_recipe(run, specs)
    chosen = compared_stages(build_graph(recipe, specs))
    small = [*small_overrides(recipe, read_run(run)["threads"], measured_dtype(run)), *overrides]
    small += [f"--only={name}" for name in chosen]
    source = run / RECIPE_FILE
    whole, killed = place / "whole", place / "killed"
    began = time.monotonic()
    _finish(_start(source, whole, small))
    seconds = time.monotonic() - began
    say(f"· never stopped: {seconds:.1f} s")
    numbers = random.Random(seed)
    done = 0
    while done < kills:
        wait = numbers.uniform(_EARLIEST, 1.5 * seconds / (kills + 1))
        process = _start(source, killed, small)
        if not _kill_after(process, wait):
            say(f"· it was done before kill {done + 1}")
            break
        done += 1
        say(f"· killed {wait:.1f} s after its start ({done} of {kills}); {_where(killed)}")
    _finish(_start(source, killed, small))
    yield from compare_runs(published(whole), published(killed), done)
    for name in recipe.stages:
        if name not in chosen:
            yield unchecked(name, SAME, "it records durations, which differ between equal runs")


def compared_stages(graph: Graph) -> list[str]:
    """Stages whose bytes can be compared, and all that leads to them: those that record durations are left out."""
    wanted = graph.with_ancestors(name for name in graph.order if not graph.specs[graph.spec_name(name)].records_time)
    return [name for name in graph.order if name in wanted]


def compare_runs(whole: dict[str, Manifest], killed: dict[str, Manifest], kills: int) -> Iterator[Finding]:
    """Every file of every stage by its checksum."""
    for name, manifest in whole.items():
        other = killed[name]
        attempts = f"{len(manifest.outputs)} files, {other.attempts} attempts"
        if manifest.records_time:
            yield unchecked(name, SAME, "it records durations, which differ between equal runs")
            continue
        mine = {output.path: output.sha256 for output in manifest.outputs}
        theirs = {output.path: output.sha256 for output in other.outputs}
        differing = sorted(path for path in mine.keys() | theirs.keys() if mine.get(path) != theirs.get(path))
        detail = f"differing: {', '.join(differing[:3])}; {attempts}" if differing else attempts
        yield finding(name, SAME, not differing, detail)
    interrupted = sum(manifest.attempts > 1 for manifest in killed.values())
    detail = f"{kills} kills; {interrupted} stages were begun more than once"
    yield finding("run", "was really killed", kills > 0, detail)


def _start(recipe: Path, run_dir: Path, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    log = run_dir.with_suffix(".log")
    command = [sys.executable, "-c", _COMMAND, "run", str(recipe), *arguments, "--run-dir", str(run_dir)]
    with log.open("ab") as file:
        # a session of its own, so that a kill reaches workers that it started
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)


def _finish(process: subprocess.Popen[bytes]) -> None:
    try:
        code = process.wait()
    except BaseException:
        _kill(process)
        raise
    if code != 0:
        command = process.args
        assert isinstance(command, list)
        log = Path(str(command[-1])).with_suffix(".log")
        tail = "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-8:])
        raise ArtifactError(
            f"the small copy of the recipe stopped with exit code {code}:\n{tail}",
            hint="if a setting is too small for this recipe, give another: tutelage verify resume RUN stage.key=value",
        )


def _kill_after(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill it at that moment; False if it had ended by itself."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        _kill(process)
        return True
    except BaseException:
        _kill(process)
        raise
    _finish(process)
    return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _where(run: Path) -> str:
    doing = sorted(path.stem for path in run.glob("*.partial"))
    return f"in {', '.join(doing)}" if doing else "between stages"
