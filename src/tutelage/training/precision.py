"""Which dtype a machine computes fastest in, measured once a run and then kept."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def compute_dtype(precision: Precision, run_folder: Path) -> torch.dtype:
    """The dtype of activations. `auto`: bfloat16 where it multiplies matrices at least 1.3 times as fast as float32.

    Some processors have bfloat16 instructions that are slower than their float32 ones, so it is measured. The answer
    is kept in `run_folder/precision.json`: a resumed run must compute as it did before.
    """
    if precision != "auto":
        return DTYPES[precision]
    path = run_folder / "precision.json"
    if not path.exists():
        rates = gigaflops(DTYPES, seconds=1)
        faster = rates["bfloat16"] > 1.3 * rates["float32"]
        beside = path.with_suffix(".tmp")
        beside.write_text(json.dumps({"chosen": "bfloat16" if faster else "float32", "gflops": rates}) + "\n")
        beside.replace(path)
    return DTYPES[json.loads(path.read_text(encoding="utf-8"))["chosen"]]


def gigaflops(dtypes: Mapping[str, torch.dtype], seconds: float) -> dict[str, float]:
    """The best of many products of the size that training has, for each dtype.

    They take turns until `seconds` are over: what else the machine does for a moment slows none of them alone.
    """
    N, K, M = 4096, 192, 512
    factors = {name: (torch.ones(N, K, dtype=dtype), torch.ones(M, K, dtype=dtype)) for name, dtype in dtypes.items()}
    best = dict.fromkeys(dtypes, float("inf"))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or float("inf") in best.values():
        for name, (x, weight) in factors.items():
            began = time.perf_counter()
            torch.nn.functional.linear(x, weight)
            best[name] = min(best[name], time.perf_counter() - began)
    return {name: round(2 * N * K * M / took / 1e9, 1) for name, took in best.items()}
