from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiny import model
from tutelage.training import precision
from tutelage.training.optim import build_optimizers, set_rates
from tutelage.training.precision import compute_dtype
from tutelage.training.schedule import rate_factor
from tutelage.training.settings import OptimizerSettings


def test_fixed_points_of_the_schedule() -> None:
    settings = OptimizerSettings(warmup_share=0.1, decay_share=0.4, final_share=0.2)
    factors = [rate_factor(step, 100, settings) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[9] == pytest.approx(10 / 11)
    assert factors[10:60] == [1.0] * 50
    assert factors[60] == pytest.approx(0.2 + 0.8 * 40 / 41)
    assert factors[99] == pytest.approx(0.2 + 0.8 / 41)
    assert factors[100] == pytest.approx(0.2)


def test_without_warm_up_and_decay_the_rate_is_constant() -> None:
    settings = OptimizerSettings(warmup_share=0, decay_share=0)
    assert {rate_factor(step, 7, settings) for step in range(7)} == {1.0}


@given(
    st.integers(1, 200),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_no_step_is_wasted_and_the_rate_rises_once_then_falls(
    num_steps: int, warmup: float, decay: float, final: float
) -> None:
    settings = OptimizerSettings(warmup_share=warmup, decay_share=decay, final_share=final)
    factors = [rate_factor(step, num_steps, settings) for step in range(num_steps)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_rates_are_set_from_the_base_rates_each_time() -> None:
    optimizers = build_optimizers(model(), OptimizerSettings(kind="muon", learning_rate=0.1, muon_learning_rate=0.5))
    for factor in (0.5, 0.1, 1.0):
        set_rates(optimizers, factor)
    assert [group["lr"] for opt in optimizers for group in opt.param_groups] == [0.1, 0.1, 0.5]


def test_every_dtype_is_measured_at_least_once() -> None:
    rates = precision.gigaflops(precision.DTYPES, seconds=0)
    assert set(rates) == set(precision.DTYPES)
    assert min(rates.values()) > 0


def test_the_measured_dtype_is_kept_for_the_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"float32": 10.0, "bfloat16": 14.0}
    monkeypatch.setattr(precision, "gigaflops", lambda dtypes, seconds: {name: rates[name] for name in dtypes})
    assert compute_dtype("auto", tmp_path) == torch.bfloat16
    rates["float32"] = 100.0
    assert compute_dtype("auto", tmp_path) == torch.bfloat16  # a resumed run must compute as it did before
    assert json.loads((tmp_path / "precision.json").read_text())["chosen"] == "bfloat16"
    (tmp_path / "precision.json").unlink()
    assert compute_dtype("auto", tmp_path) == torch.float32
    assert compute_dtype("bfloat16", tmp_path) == torch.bfloat16
