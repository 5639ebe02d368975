"""The machine: its threads, its versions, and what it refuses (a full disk, a folder without permission)."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tutelage
from tutelage.errors import ResourceError, TutelageError

_PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "pyarrow")


def use_threads(threads: int) -> None:
    """Set the number of threads for libraries that are still to be imported, and for torch if it already is."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def use_large_pages() -> None:
    """Have torch ask for pages of 2 MB, before its first tensor: a large one is there at once, not 4 KB at a time."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result, without importing them."""
    versions = {"python": platform.python_version(), "tutelage": tutelage.__version__}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def describe_hardware() -> dict[str, str | int | float]:
    """Processor, cores and memory (GB), and whether the C kernels are in use: they change the last bits of a result."""
    found: dict[str, str | int | float] = {"machine": platform.machine(), "cores": os.cpu_count() or 1}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    found["processor"] = names[0] if names else platform.processor()
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        found["memory_gb"] = round(memory / 1e9, 1)
    except (ValueError, OSError):
        pass  # not told on this system
    kernels = sys.modules.get("tutelage.model.kernels")  # a layer above: only asked if it is there
    found["kernels"] = kernels is not None and bool(kernels.used())
    return found


@contextmanager
def machine_errors(directory: Path) -> Iterator[None]:
    """Turn what the machine refuses (a full disk, a folder without permission) into errors that say what to do."""
    try:
        yield
    except TutelageError:
        raise
    except Exception as error:
        if disk_full(error):
            path = getattr(error, "filename", None) or directory
            free = shutil.disk_usage(directory).free
            raise ResourceError(
                f"the disk is full: could not write {path} ({free / 1e6:,.1f} MB free)",
                hint="make room and run the same command: finished stages and checkpoints are kept",
            ) from error
        if isinstance(error, PermissionError) and error.filename:
            message = f"no permission to use {error.filename}"
            raise ResourceError(message, hint="change its permissions, or give another --run-dir") from error
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # the second is torch's
            hint = "make the model, the context or the micro-batches smaller, or close other programs"
            raise ResourceError(f"not enough memory: {str(error)[-160:]}".rstrip(": "), hint=hint) from error
        raise


def disk_full(error: BaseException) -> bool:
    """True for every library's way to say so: an errno, or (Rust libraries) only a sentence."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(cause) or "os error 28" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
