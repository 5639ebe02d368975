"""Every golden number of every objective: outputs and gradients of independent implementations.

The directory is listed: a file without a checker fails. Sub-folders (models) have a test of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from .checkers import CHECKERS
from .golden_io import Case, Golden, golden_directory, load, map_tensors
from .policy_checkers import Values

TOLERANCE = {torch.float64: 1e-9, torch.float32: 3e-5, torch.bfloat16: 4e-2}
FLOAT32_INSIDE = 1e-6
# Looser than the table, with the reason. verl divides by n + 1e-8 when it whitens, as nobody else does.
EXCEPTIONS = {("gae_verl", "advantages"): 1e-8}
# The oracles leave values outside the mask that nobody reads: only what the mask selects is compared.
COMPARED_IN_MASK = {"ppo_rewards", "ppo_gae", "gae_verl", "masked_whiten", "ppo_loss"}

FILES = sorted(golden_directory().glob("*.json"))
GOLDEN = {path.stem: load(path) for path in FILES}
CASES = [pytest.param(golden, case, id=f"{stem}-{case.id}") for stem, golden in GOLDEN.items() for case in golden.cases]


def test_the_directory_holds_golden_files_and_each_has_a_checker() -> None:
    assert FILES, f"no golden files in {golden_directory()}"
    assert [stem for stem, golden in GOLDEN.items() if golden.name not in CHECKERS] == []


@pytest.mark.parametrize(("golden", "case"), CASES)
def test_outputs_and_gradients(golden: Golden, case: Case) -> None:
    compare(golden, case, case.inputs, suffix="")
    if case.dtype == torch.bfloat16:
        wide = map_tensors(lambda t: t.float() if t.dtype == torch.bfloat16 else t, case.inputs)
        compare(golden, case, wide, suffix="_upcast")


def compare(golden: Golden, case: Case, inputs: Values, *, suffix: str) -> None:
    """Compare the outputs and gradients whose names end in the suffix with those computed from these inputs."""
    outputs_wanted = {name: value for name, value in named(case.outputs, suffix) if not name.startswith("quirk_")}
    grads_wanted = dict(named(case.grads, suffix))
    leaves = dict(inputs)
    for name in {name: None for wanted in grads_wanted.values() for name in wanted}:
        leaves[name] = map_tensors(lambda t: t.clone().requires_grad_(), inputs[name])
    outputs = CHECKERS[golden.name](leaves, case.params)

    mask = inputs.get("mask") if golden.name in COMPARED_IN_MASK else None
    for name, wanted in outputs_wanted.items():
        check(f"outputs.{name}{suffix}", outputs[name], wanted, tolerance(golden, case, name, wanted), mask)
    for what, by_input in grads_wanted.items():
        target = differentiated(what, outputs, inputs)
        names = list(by_input)
        flat = [leaf for name in names for leaf in as_list(leaves[name])]
        found = iter(torch.autograd.grad(target, flat, retain_graph=True, materialize_grads=True))
        for name in names:
            for wanted in as_list(by_input[name]):
                limit = max(tolerance(golden, case, "", wanted), TOLERANCE[wanted.dtype])
                check(f"grads.{what}{suffix}.{name}", next(found), wanted, limit, None)


def named(values: dict[str, Any], suffix: str) -> Iterator[tuple[str, Any]]:
    """Entries of one pass, by their names without the suffix."""
    for name, value in values.items():
        if name.endswith("_upcast") == bool(suffix):
            yield name.removesuffix("_upcast"), value


def differentiated(what: str, outputs: Values, inputs: Values) -> Tensor:
    if what in outputs:
        return outputs[what]
    return (outputs[what.removeprefix("vjp_")] * inputs["cotangent"]).sum()


def tolerance(golden: Golden, case: Case, name: str, wanted: Any) -> float:
    """The file's tolerance for an output, of the coarser of its own type and the type it is computed in."""
    if (golden.name, name) in EXCEPTIONS and case.dtype == torch.float64:
        return EXCEPTIONS[golden.name, name]
    types = [item.dtype for item in as_list(wanted) if item.dtype in TOLERANCE]
    # Half-precision inputs are exact in float32, in which everything is computed.
    types.append(torch.float32 if case.dtype == torch.bfloat16 else case.dtype)
    limit = max(TOLERANCE[dtype] for dtype in types)
    return max(limit, FLOAT32_INSIDE) if name in golden.float32_outputs else limit


def check(where: str, found: Any, wanted: Any, limit: float, mask: Tensor | None) -> None:
    found, wanted = as_list(found), as_list(wanted)
    assert len(found) == len(wanted), where
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == theirs.shape, f"{where}: shape {tuple(ours.shape)}, wanted {tuple(theirs.shape)}"
        a, b = ours.detach().double(), theirs.double()
        if mask is not None and mask.shape == b.shape:
            a, b = a[mask.bool()], b[mask.bool()]
        same = (a == b) | (a.isnan() & b.isnan())
        error = torch.where(same, 0.0, (a - b).abs() / b.abs().clamp(min=1.0))
        worst = error.max().item() if error.numel() else 0.0
        assert not math.isnan(worst), f"{where}: NaN on one side only"
        assert worst <= limit, f"{where}: off by {worst:.2g}, allowed {limit:.2g}"


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
