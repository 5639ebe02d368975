"""A run's folder: whose it is, how many threads it runs on, and the lock that keeps a second run out."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import tutelage
from tutelage.errors import ArtifactError
from tutelage.run.files import write_atomic
from tutelage.run.recipe import Recipe, Specs, load_recipe

RUN_FILE = "run.json"
RECIPE_FILE = "recipe.yaml"
LOCK_FILE = ".lock"


def run_directory(recipe: Recipe, given: Path | None = None) -> Path:
    """`given`, or the recipe's `run_dir`, or runs/<name>."""
    return given or recipe.run_dir or Path("runs") / recipe.name


def read_run(directory: Path) -> dict[str, Any]:
    """`run.json`. Raises ArtifactError when the folder is not a run folder or the file is damaged."""
    path = directory / RUN_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {**record, "recipe": str(record["recipe"]), "threads": int(record["threads"])}
    except FileNotFoundError as error:
        raise ArtifactError(f"{directory} is not a run folder: {path} is missing", hint=_which(directory)) from error
    except (ValueError, KeyError, TypeError) as error:
        hint = "delete the folder, or give another --run-dir"
        raise ArtifactError(f"{path} is damaged: {error}", hint=hint) from error


def _which(directory: Path) -> str:
    below = directory if directory.is_dir() else directory.parent
    runs = sorted(path.parent.name for path in below.glob(f"*/{RUN_FILE}"))
    return f"runs in {below}: {', '.join(runs)}" if runs else "`tutelage run RECIPE` makes one"


def find_run(name: str) -> Path:
    """A run folder given by its path or by its recipe's name. Raises ArtifactError."""
    for place in (Path(name), Path("runs") / name):
        if (place / RUN_FILE).exists():
            return place
    read_run(Path(name) if Path(name).exists() else Path("runs") / name)
    raise AssertionError("read_run raises when there is no run.json")


def saved_recipe(directory: Path, specs: Specs) -> Recipe:
    """The resolved recipe that a run folder was last run with."""
    read_run(directory)
    return load_recipe(directory / RECIPE_FILE, specs)


def check_owner(directory: Path, recipe: Recipe) -> None:
    """Refuse a folder that belongs to another recipe, or is full of something that is no run at all."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ArtifactError(f"{directory} is a file, not a run folder", hint="give another --run-dir")
    if (directory / RUN_FILE).exists():
        owner = read_run(directory)["recipe"]
        if owner != recipe.name:
            message = f"{directory} belongs to the recipe {owner!r}, not to {recipe.name!r}"
            raise ArtifactError(message, hint="give another --run-dir, or delete the folder")
        return
    others = sorted(p.name for p in directory.iterdir() if p.name not in (LOCK_FILE, f"{RUN_FILE}.tmp"))
    if others:
        message = f"{directory} is not a run folder and is not empty ({', '.join(others[:3])}…)"
        raise ArtifactError(message, hint="give another --run-dir: a run replaces folders inside its own")


def claim(directory: Path, recipe: Recipe) -> tuple[int, str]:
    """Write `run.json` if it is not there; returns the run's threads and a note if they are not those asked for.

    The number of threads decides the order of floating-point sums, so it stays for the life of the folder.
    """
    asked = recipe.threads or _threads_from_environment()
    if (directory / RUN_FILE).exists():
        threads = int(read_run(directory)["threads"])
        differs = asked is not None and asked != threads
        return threads, f"{threads} threads, as when this run began (asked for: {asked})" if differs else ""
    threads = asked or available_cores()
    created = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"recipe": recipe.name, "threads": threads, "created": created, "tutelage": tutelage.__version__}
    write_atomic(directory / RUN_FILE, json.dumps(record, indent=2) + "\n")
    return threads, ""


def _threads_from_environment() -> int | None:
    text = os.environ.get("TUTELAGE_THREADS", "")
    return int(text) if text.isdecimal() and int(text) > 0 else None


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold the run folder. Raises ArtifactError naming the process that holds it.

    A POSIX record lock: it ends with the process however that dies, and children of a killed run do not keep it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK_FILE).open("a+", encoding="utf-8") as file:
        try:
            _take(file)
        except OSError as error:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            message = f"{directory} is in use by another `tutelage run` (process {pid})"
            raise ArtifactError(
                message, hint="wait until it is done, or stop it; `tutelage status` shows it"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _take(file: IO[str]) -> None:
    """Lock, at the third attempt at the latest: who only asks `holder` has it for a moment."""
    for pause in (0.05, 0.1, None):
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if pause is None:
                raise
            time.sleep(pause)


def holder(directory: Path) -> str:
    """The process that runs this folder now, or "" when none does."""
    try:
        with (directory / LOCK_FILE).open("r+", encoding="utf-8") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return file.read().strip()
    except OSError:
        pass
    return ""
