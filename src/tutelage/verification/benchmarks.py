"""Benchmarks against peers: scripts of `benchmarks/`, each run by the Python of an environment that has the peers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tutelage.errors import RecipeError, ResourceError
from tutelage.run.machine import describe_hardware
from tutelage.run.words import did_you_mean

CHECKOUT = Path(__file__).resolve().parents[3]
_SHARED = {"trainers", "rollouts", "hh", "load", "peer", "small", "gguf_model"}  # modules that rows import
_QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONWARNINGS": "ignore::FutureWarning",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",
}


def benchmark_rows(name: str, wanted: Sequence[str]) -> list[Path]:
    """The scripts of a benchmark. Raises RecipeError for an unknown name, ResourceError outside of a checkout."""
    root = CHECKOUT / "benchmarks"
    if not root.is_dir():
        raise ResourceError(
            "the benchmarks are not installed", hint="run `tutelage bench` in a checkout of the project"
        )
    names = sorted(path.name for path in root.iterdir() if any(path.glob("*.py")))
    if name not in names:
        raise RecipeError(f"there is no benchmark {name!r}; {did_you_mean(name, names)}")
    scripts = {path.stem: path for path in sorted((root / name).glob("*.py")) if path.stem not in _SHARED}
    for one in wanted:
        if one not in scripts:
            raise RecipeError(f"{name} has no row {one!r}; {did_you_mean(one, list(scripts))}")
    return [path for stem, path in scripts.items() if not wanted or stem in wanted]


def run_row(
    script: Path, rounds: int, threads: int, show: Callable[[str], object], *, quick: bool = False
) -> list[dict[str, Any]]:
    """Run one script in the peers' environment and collect its rows; `show` gets its other lines.

    Raises RowError, which has the rows so far, if the script does not end well: it may have found that the sides do
    not agree.
    """
    python = peers_python(show)
    command = [str(python), str(script), "--rounds", str(rounds), "--threads", str(threads), *["--quick"] * quick]
    folders = (*row_packages(script, python, show), CHECKOUT / "src", CHECKOUT / "benchmarks")
    path = os.pathsep.join(map(str, folders))
    environment = {**os.environ, **_QUIET, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}
    rows = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("ROW "):
                rows.append(json.loads(line.removeprefix("ROW ")))
            else:
                show(line.rstrip())
    if process.returncode:
        raise RowError(script.name, process.returncode, rows)
    return rows


class RowError(ResourceError):
    """A benchmark's script that did not end well."""

    def __init__(self, name: str, code: int, rows: list[dict[str, Any]]) -> None:
        super().__init__(f"{name} ended with {code}", hint="its own message is above")
        self.rows = rows


def row_packages(script: Path, python: Path, show: Callable[[str], object]) -> list[Path]:
    """The folder of what one row alone needs, as `<row>.txt` beside its script says; installed at first use.

    Without what it depends on, which the environment has: so a row can have an older peer than the others.
    """
    wanted = script.with_suffix(".txt")
    if not wanted.is_file():
        return []
    folder = python.parents[1] / f"{script.stem}-{hashlib.sha256(wanted.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        show(f"installing {', '.join(wanted.read_text(encoding='utf-8').split())} for {script.stem} …")
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        _install([*_pip(python), "--no-deps", "--target", str(partial), "-r", str(wanted)])
        partial.rename(folder)
    return [folder]


def peers_python(show: Callable[[str], object]) -> Path:
    """The Python of the environment with the pinned peers, built at first use. Raises ResourceError if it cannot be."""
    requirements = CHECKOUT / "benchmarks" / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutelage" / f"bench-{digest}"
    python, ready = folder / "bin" / "python", folder / ".ready"
    if ready.exists():
        return python
    show(f"building the peers' environment in {folder} …")
    _install([sys.executable, "-m", "venv", "--clear", str(folder)])
    # torch first: alone it may come as a wheel for the processor
    _install([*_pip(python), "torch==2.13.0"])
    _install([*_pip(python), "-r", str(requirements)])
    ready.touch()
    return python


def _pip(python: Path) -> list[str]:
    return [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def _install(step: list[str]) -> None:
    done = subprocess.run(step, capture_output=True, text=True, check=False, env={**os.environ, **_QUIET})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ResourceError(f"the peers cannot be installed: {last}", hint="is a package index in reach?")


def hardware() -> str:
    """The processor, its cores, and how busy they are: ratios of a busy machine say less."""
    found = describe_hardware()
    return f"{found['processor']}, {found['cores']} cores, load {os.getloadavg()[0]:.1f}"
