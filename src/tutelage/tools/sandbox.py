"""A program of a stranger, run behind walls and under a clock of our own: bytes go in, bounded bytes come out."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_LAUNCHER = Path(__file__).with_name("confine.py")
Ending = Literal["exit", "time", "output", "killed"]


@dataclass(frozen=True)
class Limits:
    """What a program may use. `output_bytes` are of its two streams together."""

    wall_seconds: int = 10
    cpu_seconds: int = 3
    memory_bytes: int = 512 << 20
    output_bytes: int = 64 << 10


@dataclass(frozen=True)
class Ended:
    """What a program wrote, and how it ended: by itself, out of time, cut for writing too much, or by a signal."""

    ending: Ending
    code: int
    stdout: bytes
    stderr: bytes


def run_confined(argv: Sequence[str], limits: Limits, readable: Sequence[str] = ()) -> Ended:
    """Run a program without files, network and further processes (`confine.py` says how), and never longer than told.

    `readable` are more paths that it may read; it gets no input and an empty environment. It and whatever it started
    are gone when this returns.
    """
    told = {
        "memory_bytes": limits.memory_bytes,
        "cpu_seconds": limits.cpu_seconds,
        "wall_seconds": limits.wall_seconds,
        "readable": list(readable),
    }
    command = [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(told), *argv]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env={},
        start_new_session=True,
    ) as process:
        try:
            stopped, stdout, stderr = _collect(process, limits)
        finally:
            _kill(process)
    code = process.returncode
    ending: Ending = stopped or ("exit" if code >= 0 else "killed")
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and stopped is None):
        ending = "time"  # the kernel's own limit on processor time
    return Ended(ending, code, stdout, stderr)


def _collect(process: subprocess.Popen[bytes], limits: Limits) -> tuple[Ending | None, bytes, bytes]:
    """Both streams until the program ends, its time is up or it has written too much."""
    assert process.stdout is not None
    assert process.stderr is not None
    taken = {"stdout": bytearray(), "stderr": bytearray()}
    stopped: Ending | None = None
    deadline, left = time.monotonic() + limits.wall_seconds, limits.output_bytes
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, "stdout")
        selector.register(process.stderr, selectors.EVENT_READ, "stderr")
        while selector.get_map() and stopped is None:
            ready = selector.select(max(deadline - time.monotonic(), 0))
            if not ready:
                stopped = "time"
            for key, _ in ready:
                piece = os.read(key.fd, 1 << 16)
                if not piece:
                    selector.unregister(key.fileobj)
                taken[key.data] += piece[:left]
                left -= len(piece)
                if left < 0:
                    stopped = "output"
                    break
    if stopped is None:
        try:
            process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:  # it closed its streams and goes on
            stopped = "time"
    return stopped, bytes(taken["stdout"]), bytes(taken["stderr"])


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the program with everything in its session."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
