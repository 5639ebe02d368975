"""Python written by a model: run by Monty, an interpreter that has no files, network or processes, behind our walls.

Monty (pydantic-monty) is the first wall, the limits of its process the second (`sandbox.py`), our clock the third: its
own limits do not hold for a single operation on a huge integer, and sleeping is no work.
"""

from __future__ import annotations

import re
import shutil
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tutelage.errors import ResourceError
from tutelage.tools.sandbox import Ended, Limits, run_confined

MAX_CODE = 20_000  # characters; an argument of a program may have 128 KiB
_MONTY_MEMORY = "128MB"  # below the limit of the process, so that code is told instead of killed
# Random numbers are the same at every run, as everywhere in a run folder. One line: tracebacks count from there.
_PRELUDE = "import random as _random; _random.seed(0)\n"
_TIMING = re.compile(r"^[0-9.]+(?:ns|µs|μs|ms|s) ❯ ", re.MULTILINE)
_MEASURED = re.compile(r"(?<=limit exceeded): .*")  # to the byte or microsecond: not the same at every run
_LINE = re.compile(r'File "[^"]*", line ([0-9]+)')


@dataclass(frozen=True)
class Ran:
    """What code printed and its last expression gave, or what went wrong, in words for the model that wrote it."""

    output: str
    error: str = ""


def run_python(code: str, limits: Limits | None = None) -> Ran:
    """Run code and return. ResourceError if Monty is not installed."""
    if len(code) > MAX_CODE:
        return Ran("", f"the code has {len(code)} characters, more than {MAX_CODE}")
    if "\0" in code:
        return Ran("", "the code has a zero byte")
    limits = limits or Limits()
    program = _monty()
    options = ["--max-memory", _MONTY_MEMORY, "--max-feed-duration", str(limits.cpu_seconds), "--max-total-sleep", "0"]
    code = code.encode("utf-8", "replace").decode()
    ended = run_confined([program, *options, "-c", _PRELUDE + code], limits, readable=[program])
    return _read(ended, limits)


def _read(ended: Ended, limits: Limits) -> Ran:
    printed = ended.stdout.decode("utf-8", "replace")
    if ended.ending == "output":
        return Ran(printed, f"stopped: more than {limits.output_bytes} bytes of output")
    if ended.ending == "time":
        return Ran(printed, f"stopped: out of time ({limits.cpu_seconds} s of work, {limits.wall_seconds} s in all)")
    if ended.ending == "killed":
        return Ran(printed, "stopped: it needed more memory or deeper recursion than there is")
    said = ended.stderr.decode("utf-8", "replace")
    marks = list(_TIMING.finditer(said))  # Monty says `1.2ms ❯ value`; before it is what the code wrote to stderr
    written, said = (said[: marks[-1].start()], said[marks[-1].end() :]) if marks else ("", said)
    if ended.code:
        return Ran(printed + written, _in_one_line(said))
    value = said.rstrip("\n")
    return Ran(printed + written + ("" if value == "None" else value))


def _in_one_line(said: str) -> str:
    """A traceback as `ZeroDivisionError: division by zero (line 2)`."""
    lines = _LINE.findall(said)
    last = next((line for line in reversed(said.strip().splitlines()) if line.strip()), "it failed without a word")
    last = _MEASURED.sub("", last.removeprefix("error: ").strip())
    place = int(lines[-1]) - 1 if lines else 0
    return f"{last} (line {place})" if place > 0 else last


@lru_cache(maxsize=1)
def _monty() -> str:
    """Where Monty's program is: among this environment's scripts, or on the path."""
    beside = Path(sysconfig.get_path("scripts")) / "monty"
    found = str(beside) if beside.is_file() else shutil.which("monty")
    if found is None:
        raise ResourceError(
            "the tool `python` needs the program `monty`, which is not installed",
            hint="pip install 'pydantic-monty>=1.4,<2', or leave the tool out",
        )
    return str(Path(found).resolve())
