"""What every row shares: two sides in turn in one process, and the row as it is reported."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    return chosen


def seconds(run: Callable[[], Any]) -> float:
    """Of the processor if there is one thread (other programs may share the cores), else of the clock."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    run()
    return clock() - began


def best_setting(settings: Mapping[str, Callable[[], Any]]) -> str:
    """The name of the quickest: the better of two runs after one to warm up, for one run of the peer may be unlucky.

    A setting that fails is left out and named.
    """
    found = {}
    for name, run in settings.items():
        try:
            run()
            found[name] = min(seconds(run), seconds(run))
        except Exception as error:  # a peer's setting may not work on this machine
            print(f"  {name}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)
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


def report(
    work: str, peer: str, setting: str, ours: float, theirs: float, unit: str, asked: float, **more: Any
) -> None:
    """One row on stdout as a line of JSON, for the command to collect; more is better in `unit`."""
    row = {"work": work, "peer": peer, "setting": setting, "ours": round(ours, 3), "theirs": round(theirs, 3),
           "unit": unit, "ratio": round(ours / theirs, 2), "asked": asked, **more}  # fmt: skip
    print("ROW " + json.dumps(row), flush=True)
