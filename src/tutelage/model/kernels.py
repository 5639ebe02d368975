"""The C kernels of the .c files here: built once with the machine's own compiler, cached, called by address.

Half of a small model's training step on a processor is element-wise work that torch does in many passes over memory.
Where there is no compiler, or for tensors that the kernels do not take, callers use the torch operations instead.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

HERE = Path(__file__).parent
HEADERS = tuple(HERE / f"{name}.h" for name in ("kernels", "layers", "amx", "attend"))
SOURCES = tuple(
    HERE / f"{name}.c" for name in ("kernels", "tile_linear", "tile_logprobs", "tile_attention", "decode", "sample")
)
ROWS_PER_BLOCK = 256  # as in layers.h
SERIAL_ELEMENTS = 1 << 15  # fewer than this are not worth waking a second thread for
SMALLEST = 1 << 14  # elements: below this the torch operations are quicker to call (a token a row, when decoding)
# -ffast-math is not among these: it would assume that there are no NaNs, and a NaN loss must be noticed
_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC")
_POINTER, _INTEGER, _FLOAT, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
_SIGNATURES = {
    **{
        f"{name}_{dtype}": types
        for dtype in ("float32", "bfloat16")
        for name, types in {
            "rms_norm_forward": [*[_POINTER] * 4, *[_INTEGER] * 2, _FLOAT, _INT],
            "rms_norm_backward": [*[_POINTER] * 7, *[_INTEGER] * 2, _INT],
            "swiglu_forward": [*[_POINTER] * 3, _INTEGER, _INT],
            "swiglu_backward": [*[_POINTER] * 5, _INTEGER, _INT],
            "rotate": [*[_POINTER] * 4, *[_INTEGER] * 11, _INT, _INT],
        }.items()
    },
    "softmax_statistics": [*[_POINTER] * 5, *[_INTEGER] * 2, _FLOAT, _INT],
    "softmax_gradient": [*[_POINTER] * 4, *[_INTEGER] * 2, _FLOAT, _INT],
    "amx_answer": [_POINTER],
    "amx_pack": [*[_POINTER] * 2, *[_INTEGER] * 2, _INT],
    "head_statistics": [*[_POINTER] * 6, *[_INTEGER] * 3, _FLOAT, _INT],
    "head_gradient": [*[_POINTER] * 6, *[_INTEGER] * 3, _FLOAT, _INT],
    "add_weight_gradient": [*[_POINTER] * 4, *[_INTEGER] * 3, _INT],
    "attention_forward": [_POINTER] * 7,
    "attention_backward": [_POINTER] * 11,
    "draw_rows": [*[_POINTER] * 8, *[_INTEGER] * 2, _INT],
    "decode_rows": [*[_POINTER] * 5, _INTEGER, _POINTER, _INTEGER, *[_POINTER] * 2],
    "decode_scratch": [_POINTER, *[_INTEGER] * 2, _POINTER],
}


class _BuildError(Exception):
    """Why there are no kernels; told by `why_not`, never raised to the user."""


def available() -> bool:
    """Whether the kernels are there and not switched off by TUTELAGE_KERNELS=0; the first call may compile (1 s)."""
    return os.environ.get("TUTELAGE_KERNELS", "1") != "0" and _load()[0] is not None


def why_not() -> str:
    """Why `available` is false, in one line; empty if it is true."""
    if os.environ.get("TUTELAGE_KERNELS", "1") == "0":
        return "switched off by TUTELAGE_KERNELS=0"
    return _load()[1]


def used() -> bool:
    """Whether this process has come to use them; never compiles."""
    return _load.cache_info().currsize > 0 and available()


def library() -> ctypes.CDLL:
    """The compiled functions, named and typed as in the sources; only if `available`."""
    found = _load()[0]
    assert found is not None, "library() without available()"
    return found


def takes(*tensors: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Whether these may go to a kernel: plain tensors of one dtype in this machine's memory, outside of any tracing.

    Subclasses (DTensor, fake tensors) and functorch transforms have no memory of their own to point at.
    """
    for tensor in tensors:
        plain = type(tensor) is Tensor or type(tensor) is torch.nn.Parameter
        if not (plain and tensor.dtype is dtype and tensor.device.type == "cpu"):
            return False
    return not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()) and available()


def takes_either(*tensors: Tensor) -> bool:
    """`takes` for the functions that come in both types: all float32, or all bfloat16."""
    return takes(*tensors, dtype=torch.bfloat16 if tensors[0].dtype is torch.bfloat16 else torch.float32)


def function(name: str, tensor: Tensor) -> Callable[..., None]:
    """The compiled function of this name for elements of the tensor's dtype."""
    found: Callable[..., None] = getattr(library(), f"{name}_{str(tensor.dtype).removeprefix('torch.')}")
    return found


def threads_for(elements: int) -> int:
    """How many threads a kernel over this many elements should use; results do not depend on it."""
    return torch.get_num_threads() if elements >= SERIAL_ELEMENTS else 1


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    try:
        source = b"".join(path.read_bytes() for path in (*HEADERS, *SOURCES))
        folder = _cache_folder()
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder can be found
        return None, str(error)
    reasons = []
    for compiler in _compilers():
        for openmp in _openmp_flags():
            try:
                return _open(_build(source, compiler, openmp, folder)), ""
            except (_BuildError, OSError, subprocess.SubprocessError) as error:
                reasons.append(f"{shlex.join(compiler)}: {error}")
    return None, reasons[0] if reasons else "no C compiler found (cc, gcc or clang)"


def _compilers() -> list[list[str]]:
    """Commands that exist, the user's own choice first."""
    candidates = [os.environ.get("CC", ""), sysconfig.get_config_var("CC") or "", "cc", "gcc", "clang"]
    commands = [shlex.split(candidate) for candidate in dict.fromkeys(candidates) if candidate]
    return [command for command in commands if shutil.which(command[0])]


def _openmp_flags() -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Compiler and linker flags to try: threads from torch's own OpenMP library, else one thread.

    A second OpenMP library in one process would start threads of its own that fight with torch's for the cores.
    """
    root = Path(torch.__file__).parent
    bundled = sorted([*root.glob("lib/libgomp*.so*"), *root.parent.glob("torch.libs/libgomp*.so*")])
    with_threads = [(("-fopenmp",), (str(path),)) for path in bundled]
    return [*with_threads, (("-fopenmp-simd",), ())]


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "tutelage"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    )


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, check=False)
    if done.returncode:
        raise _BuildError((done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[0])
    return done.stdout


def _build(source: bytes, compiler: list[str], openmp: tuple[tuple[str, ...], tuple[str, ...]], folder: Path) -> Path:
    """The compiled library, from the cache if these flags of this compiler have built this source before."""
    flags = [*_FLAGS, *openmp[0]]
    facts = [_run([*compiler, "--version"]), *compiler, *flags, *openmp[1], platform.platform(), _processor()]
    digest = hashlib.sha256(source + "\0".join(facts).encode()).hexdigest()[:24]
    target = folder / f"kernels-{digest}.so"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as temporary:
        # two steps, for `-fopenmp` at the link would add the compiler's own OpenMP library
        objects, linked = [Path(temporary) / f"{path.stem}.o" for path in SOURCES], Path(temporary) / "kernels.so"
        for path, compiled in zip(SOURCES, objects, strict=True):
            _run([*compiler, *flags, "-c", str(path), "-o", str(compiled)])
        _run([*compiler, "-shared", *map(str, objects), *openmp[1], "-lm", "-o", str(linked)])
        os.replace(linked, target)  # whole or not at all: another process may be building the same
    return target


def _open(path: Path) -> ctypes.CDLL:
    opened = ctypes.CDLL(str(path))
    for name, types in _SIGNATURES.items():
        function = getattr(opened, name)
        function.argtypes, function.restype = types, None
    return opened
