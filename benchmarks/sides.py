"""What every row shares: two sides in turn in one process, and the row as it is reported."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch

from tutelage.training.precision import compute_dtype

TOLERANCE = 0.01  # of losses that both sides have on the same batches


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    chosen.rounds = 1 if chosen.quick else chosen.rounds
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    return chosen


def clock() -> float:
    """Of the processor if there is one thread (other programs may share the cores), else of the clock."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def seconds(run: Callable[[], Any]) -> float:
    began = clock()
    run()
    return clock() - began


def twice(run: Callable[[], Any]) -> float:
    """The better of two runs after one to warm up, for one run of the peer may be unlucky."""
    run()
    return min(seconds(run), seconds(run))


def quickest_dtype() -> torch.dtype:
    """What `precision: auto` chooses on this machine."""
    with TemporaryDirectory() as folder:
        return compute_dtype("auto", Path(folder))


Setting = TypeVar("Setting")


def a_few(settings: Mapping[str, Setting], quick: bool) -> dict[str, Setting]:
    """All settings of the peer, or the first two when the benchmark only shows that it works."""
    return dict(list(settings.items())[: 2 if quick else None])


def best_setting(settings: Mapping[str, Callable[[], Any]], cost: Callable[[Callable[[], Any]], float] = twice) -> str:
    """The name of the setting that costs least; one that fails is left out and named."""
    found = {}
    for name, run in settings.items():
        try:
            found[name] = cost(run)
        except Exception as error:  # a peer's setting may not work on this machine
            print(f"  {name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}", flush=True)
            continue
        print(f"  {name}: {found[name]:.2f} s", flush=True)
    if not found:
        raise SystemExit("no setting of the peer works on this machine: see the reasons above")
    return min(found, key=found.__getitem__)


def in_turn(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Median seconds of both sides, alternating; the first round warms up."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for side, run in enumerate((ours, theirs)):
            spent = seconds(run)
            if turn:
                times[side].append(spent)
    return statistics.median(times[0]), statistics.median(times[1])


def gaps(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    """By name, how far ours is from theirs as a share of theirs; printed."""
    found = {name: abs(ours[name] - theirs[name]) / abs(theirs[name]) for name in theirs}
    for name, gap in found.items():
        print(f"  {name}: ours {ours[name]:.6g}, theirs {theirs[name]:.6g}, apart {gap:.3%}", flush=True)
    return found


def equal_or_exit(apart: Mapping[str, float]) -> None:
    """The sides did the same work only if they agree: else the row is worth nothing, and the benchmark fails."""
    wrong = [f"{name} by {gap:.2%}" for name, gap in apart.items() if not gap <= TOLERANCE]
    if wrong:
        raise SystemExit(f"the sides do not agree within {TOLERANCE:.0%}: {', '.join(wrong)}")
    print(f"  both sides agree within {TOLERANCE:.0%}", flush=True)


def report(
    work: str, peer: str, setting: str, ours: float, theirs: float, unit: str, asked: float, **more: Any
) -> None:
    """One row on stdout as a line of JSON, for the command to collect; more is better in `unit`."""
    row = {"work": work, "peer": peer, "setting": setting, "ours": round(ours, 3), "theirs": round(theirs, 3),
           "unit": unit, "ratio": round(ours / theirs, 2), "asked": asked, "threads": torch.get_num_threads(),
           "versions": versions(("torch", "transformers", "trl", "accelerate")), **more}  # fmt: skip
    print(f"  ratio {ours / theirs:.2f}, asked {asked:g}", flush=True)
    print("ROW " + json.dumps(row), flush=True)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of what was measured here; a row's own packages come before those of the environment."""
    return {name: version(name) for name in packages}
