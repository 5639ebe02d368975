"""Benchmarks against peers: scripts of `benchmarks/`, each run by the Python of an environment that has the peers."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tutelage.errors import RecipeError, ResourceError
from tutelage.run.machine import describe_hardware
from tutelage.run.words import did_you_mean

CHECKOUT = Path(__file__).resolve().parents[3]
_SHARED = {"sides"}  # modules that rows import
_QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def benchmark_rows(name: str, wanted: Sequence[str]) -> list[Path]:
    """The scripts of a benchmark. Raises RecipeError for an unknown name, ResourceError outside of a checkout."""
    root = CHECKOUT / "benchmarks"
    if not root.is_dir():
        raise ResourceError(
            "the benchmarks are not installed", hint="run `tutelage bench` in a checkout of the project"
        )
    names = sorted(path.name for path in root.iterdir() if (path / "sides.py").is_file())
    if name not in names:
        raise RecipeError(f"there is no benchmark {name!r}; {did_you_mean(name, names)}")
    scripts = {path.stem: path for path in sorted((root / name).glob("*.py")) if path.stem not in _SHARED}
    for one in wanted:
        if one not in scripts:
            raise RecipeError(f"{name} has no row {one!r}; {did_you_mean(one, list(scripts))}")
    return [path for stem, path in scripts.items() if not wanted or stem in wanted]


def run_row(script: Path, rounds: int, threads: int, show: Callable[[str], object]) -> list[dict[str, Any]]:
    """Run one script in the peers' environment and collect its rows; `show` gets its other lines."""
    command = [str(peers_python(show)), str(script), "--rounds", str(rounds), "--threads", str(threads)]
    environment = {**os.environ, **_QUIET, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(CHECKOUT / "src")}
    rows = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("ROW "):
                rows.append(json.loads(line.removeprefix("ROW ")))
            else:
                show(line.rstrip())
    if process.returncode:
        raise ResourceError(f"{script.name} ended with {process.returncode}", hint="its own message is above")
    return rows


def peers_python(show: Callable[[str], object]) -> Path:
    """The Python of the environment with the pinned peers, built at first use. Raises ResourceError if it cannot be."""
    requirements = CHECKOUT / "benchmarks" / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutelage" / f"bench-{digest}"
    python, ready = folder / "bin" / "python", folder / ".ready"
    if ready.exists():
        return python
    show(f"building the peers' environment in {folder} …")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # torch first: alone it may come as a wheel for the processor
    steps = [[sys.executable, "-m", "venv", "--clear", str(folder)], [*pip, "torch==2.13.0"],
             [*pip, "-r", str(requirements)]]  # fmt: skip
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False, env={**os.environ, **_QUIET})
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ResourceError(f"the peers cannot be installed: {last}", hint="is a package index in reach?")
    ready.touch()
    return python


def hardware() -> str:
    """The processor, its cores, and how busy they are: ratios of a busy machine say less."""
    found = describe_hardware()
    return f"{found['processor']}, {found['cores']} cores, load {os.getloadavg()[0]:.1f}"
