"""What this machine can do, measured in a few seconds, and what it means for the quickstart."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from tutelage.run.folder import available_cores
from tutelage.run.machine import describe_hardware

State = Literal["good", "note", "warning", "bad"]
OPTIONAL = {
    "transformers": "`tutelage verify export` also compares logits with it",
    "huggingface_hub": "models and data from the hub",
    "ray": "curation and training on several machines",
}
MEMORY_GB = 3.0  # what the quickstart takes at most, with room
DISK_GB = 1.0
SLOW_GFLOPS = 50.0  # about a quarter of what two quiet cores reached where the quickstart was measured


@dataclass(frozen=True)
class Seen:
    """One thing about the machine, whether it is good, and what it means."""

    name: str
    state: State
    found: str
    meaning: str = ""


def examine() -> list[Seen]:
    """Everything, in the order in which it is shown."""
    load = _load()  # before our own measurements raise it
    return [_python(), _torch(), _processor(), load, *_speed(), _precision(), _memory(), _disk(), *_packages()]


def _python() -> Seen:
    enough = sys.version_info >= (3, 11)
    return Seen("python", "good" if enough else "bad", platform.python_version(), "" if enough else "3.11 is needed")


def _torch() -> Seen:
    found = version("torch")
    numbers = tuple(int(part) for part in found.split("+")[0].split(".")[:2] if part.isdecimal())
    if numbers >= (2, 13):
        return Seen("torch", "good", found)
    return Seen("torch", "bad", found, "2.13 or newer is needed: `make setup` installs it")


def _processor() -> Seen:
    hardware, cores = describe_hardware(), available_cores()
    name = f"{hardware['processor'] or hardware['machine']}, {cores} of {hardware['cores']} cores usable"
    if cores >= 2:
        return Seen("processor", "good", name)
    return Seen("processor", "warning", name, "the quickstart is made for two cores: expect about twice its time")


def _load() -> Seen:
    """The load average counts programs that want a core; ours was not one of them until now."""
    minute, five, _ = os.getloadavg()
    cores = available_cores()
    found = f"{minute:.1f} in the last minute, {five:.1f} in five, on {cores} cores"
    if minute < 0.3 * cores:
        return Seen("load", "good", found)
    share = min(minute / cores, 1.0)
    meaning = (
        f"another program shares the cores (about {share:.0%} of them): training is slower by as much, and speeds "
        "measured now are not this machine's"
    )
    return Seen("load", "warning", found, meaning)


def _speed() -> Iterator[Seen]:
    import torch

    from tutelage.training.precision import gigaflops

    before = torch.get_num_threads()
    rates: dict[int, float] = {}
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            rates[threads] = gigaflops({"float32": torch.float32}, seconds=0.5)["float32"]
    finally:
        torch.set_num_threads(before)
    gain = rates[2] / rates[1]
    found = f"{rates[1]:.0f} GFLOP/s with 1 thread, {rates[2]:.0f} with 2 (×{gain:.2f}), float32"
    if rates[2] < SLOW_GFLOPS:
        yield Seen(
            "speed", "warning", found, "expect more than the 21 minutes that the quickstart took when it was measured"
        )
    elif available_cores() >= 2 and gain < 1.3:
        yield Seen(
            "speed", "warning", found, "a second thread hardly helps: the cores are shared, or one core in two halves"
        )
    else:
        yield Seen(
            "speed", "good", found, "fast enough: the quickstart took 21 minutes on two such cores, partly shared"
        )
    yield Seen(
        "threads", "note", f"{before} by default", "a run keeps its number; TUTELAGE_THREADS sets it for new runs"
    )


def _precision() -> Seen:
    from tutelage.training.precision import compute_dtype

    with tempfile.TemporaryDirectory() as place:
        compute_dtype("auto", Path(place))
        measured = json.loads((Path(place) / "precision.json").read_text(encoding="utf-8"))
    rates = ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in measured["gflops"].items())
    meaning = "what `precision: auto` would choose now; weights are float32 either way"
    return Seen("precision", "good", f"{measured['chosen']} ({rates})", meaning)


def _memory() -> Seen:
    total = float(describe_hardware().get("memory_gb", 0))
    free = _available_gb()
    if free is None:
        return Seen("memory", "note", f"{total:.1f} GB" if total else "not told by this system")
    found = f"{free:.1f} GB free of {total:.1f} GB"
    if free >= MEMORY_GB:
        return Seen("memory", "good", found)
    return Seen("memory", "warning", found, f"the quickstart wants {MEMORY_GB:.0f} GB: close other programs")


def _available_gb() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 / 1e9 if found else None


def _disk() -> Seen:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    found = f"{free:,.1f} GB free in {Path.cwd()}"
    if free >= DISK_GB:
        return Seen("disk", "good", found)
    return Seen("disk", "warning", found, f"the quickstart wants {DISK_GB:.0f} GB for runs/")


def _packages() -> Iterator[Seen]:
    for name, use in OPTIONAL.items():
        try:
            yield Seen(name, "good", version(name), use)
        except PackageNotFoundError:
            yield Seen(name, "note", "not installed (optional)", f"would allow: {use}")
