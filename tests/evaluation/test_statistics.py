"""Intervals against published values and by their properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.evaluation.statistics import bootstrap_mean, paired_win_rate, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_newcombes_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    estimate = wilson(successes, n)
    assert estimate.ci_low == pytest.approx(low, abs=5e-5)
    assert estimate.ci_high == pytest.approx(high, abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_value_and_mirrors(case: tuple[int, int]) -> None:
    successes, n = case
    estimate, mirrored = wilson(successes, n), wilson(n - successes, n)
    assert 0 <= estimate.ci_low <= estimate.value <= estimate.ci_high <= 1
    assert estimate.ci_low == pytest.approx(1 - mirrored.ci_high, abs=1e-9)


def test_wilson_of_nothing_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        wilson(0, 0)


def test_bootstrap_agrees_with_the_normal_interval_and_is_seeded() -> None:
    values = [float(i % 10) for i in range(1000)]
    estimate = bootstrap_mean(values, seed=3)
    half = 1.96 * 2.8723 / 1000**0.5  # standard deviation of 0..9 is 2.8723
    assert estimate.value == 4.5
    assert estimate.ci_low == pytest.approx(4.5 - half, abs=0.02)
    assert estimate.ci_high == pytest.approx(4.5 + half, abs=0.02)
    assert estimate == bootstrap_mean(values, seed=3)
    assert estimate != bootstrap_mean(values, seed=4)


def test_bootstrap_of_a_constant_has_no_width() -> None:
    estimate = bootstrap_mean([2.5] * 7, seed=0)
    assert (estimate.value, estimate.ci_low, estimate.ci_high, estimate.n) == (2.5, 2.5, 2.5, 7)


def test_ties_count_half() -> None:
    estimate = paired_win_rate([3, 2, 1, 1], [1, 2, 1, 5])
    assert estimate.value == 0.5
    assert estimate.n == 4
    assert paired_win_rate([1] * 10, [1] * 10).value == 0.5
    swapped = paired_win_rate([1, 2, 1, 5], [3, 2, 1, 1])
    assert estimate.ci_low == pytest.approx(1 - swapped.ci_high)
