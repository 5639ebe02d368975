"""Reads golden files: `{"header": …, "cases": […]}` with tensors written as lists or kept in a safetensors file beside.

The directory is `tests/conformance/golden`, or `TUTELAGE_GOLDEN`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


@dataclass(frozen=True)
class Case:
    id: str
    dtype: torch.dtype
    params: dict[str, Any]
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    grads: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Golden:
    name: str
    float32_outputs: tuple[str, ...]
    cases: list[Case]


def golden_directory() -> Path:
    return Path(os.environ.get("TUTELAGE_GOLDEN") or Path(__file__).parent / "golden")


def load(path: Path) -> Golden:
    document = json.loads(path.read_text(encoding="utf-8"))
    header = document["header"]
    cases = []
    for case in document["cases"]:
        inputs, outputs, grads = (tensors(case[part], path.parent) for part in ("inputs", "outputs", "grads"))
        dtype = getattr(torch, case["dtype"])
        cases.append(Case(case["id"], dtype, case["params"], inputs, outputs, grads))
    assert len(cases) == header["num_cases"], f"{path.name}: {len(cases)} cases, its header says {header['num_cases']}"
    # The header explains some entries in words after the name.
    float32_outputs = tuple(entry.split()[0] for entry in header.get("float32_outputs", []))
    return Golden(header["name"], float32_outputs, cases)


def tensors(value: Any, folder: Path) -> Any:
    """The same structure with every tensor record turned into a tensor."""
    if isinstance(value, list):
        return [tensors(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    if not {"dtype", "shape"} <= value.keys():
        return {key: tensors(item, folder) for key, item in value.items()}
    dtype = getattr(torch, value["dtype"])
    if "file" in value:
        stored = load_file(folder / value["file"])[value["key"]]
        assert (stored.dtype, list(stored.shape)) == (dtype, value["shape"]), value["key"]
        return stored
    wide = torch.float64 if dtype.is_floating_point else dtype
    numbers = [float(number) if isinstance(number, str) else number for number in value["data"]]
    return torch.tensor(numbers, dtype=wide).reshape(value["shape"]).to(dtype)


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The function applied to every tensor of a nested structure."""
    if isinstance(value, dict):
        return {key: map_tensors(function, item) for key, item in value.items()}
    if isinstance(value, list):
        return [map_tensors(function, item) for item in value]
    return function(value) if isinstance(value, Tensor) else value
