"""The most memory that a stage held, as Linux tells it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5), clear_refs: the peak becomes what is resident now


def watch_memory() -> Callable[[], int | None]:
    """Begin to watch; what is returned gives the most bytes since then that this process had resident.

    What was freed before is handed back to the system first, so that it does not count. None where nothing is told.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return lambda: None
    return _peak


def _peak() -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    told = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(told[0]) * 1024 if told else None
