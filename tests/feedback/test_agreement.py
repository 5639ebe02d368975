"""Agreement: published examples, hand-derived numbers, and what cannot be computed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from tutelage.feedback.agreement import cohen, comparisons, kendall_tau_b, krippendorff, nominal, ordinal

# Krippendorff 2011, section C: four observers, twelve units, missing values; α nominal 0.743, ordinal 0.815
OBSERVERS = ["1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."]
UNITS = [[int(value) for value in unit if value != "."] for unit in zip(*map(str.split, OBSERVERS), strict=True)]


def test_alpha_is_that_of_the_paper() -> None:
    assert krippendorff(UNITS, nominal) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff(UNITS, ordinal) == pytest.approx(0.815, abs=5e-4)


def test_alpha_by_hand() -> None:
    # Two units, values aa and ab: coincidences aa 2, ab 1, ba 1; n_a = 3, n_b = 1, n = 4.
    # D_o = 2 / 4, D_e = (2 · 3 · 1) / (4 · 3) = 1 / 2, α = 0.
    assert krippendorff(["aa", "ab"], nominal) == pytest.approx(0.0)
    # aa and bb: D_o = 0. ab and ba: D_o = 1, D_e = 2 · 2 · 2 / (4 · 3) = 2 / 3, α = −1/2.
    assert krippendorff(["aa", "bb"], nominal) == 1
    assert krippendorff(["ab", "ba"], nominal) == pytest.approx(-0.5)


@pytest.mark.parametrize("units", [[], ["a"], ["a", "b"], ["aa", "aa"]])
def test_alpha_of_nothing_to_compare_is_undefined(units: list[str]) -> None:
    assert krippendorff(units, nominal) is None
    assert krippendorff(units, ordinal) is None


def test_kappa_by_hand() -> None:
    # 20 both yes, 5 only the first, 10 only the second, 15 both no: p_o = 0.7, p_e = 0.5 · 0.6 + 0.5 · 0.4, κ = 0.4
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert cohen(pairs) == pytest.approx(0.4)
    assert cohen([]) is None
    assert cohen([("y", "y")] * 3) is None


def test_tau_by_hand_and_undefined_for_all_ties() -> None:
    # 1 2 2 against 1 2 3: C = 2, D = 0, one pair tied in the first: 2 / √(2 · 3)
    assert kendall_tau_b([1, 2, 2], [1, 2, 3]) == pytest.approx(2 / 6**0.5)
    assert kendall_tau_b([1, 2, 3], [3, 2, 1]) == -1
    assert kendall_tau_b([1, 1], [1, 2]) is None
    assert kendall_tau_b([], []) is None


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=2, max_size=8))
def test_tau_is_scipys(pairs: list[tuple[int, int]]) -> None:
    first, second = [list(side) for side in zip(*pairs, strict=True)]
    expected = kendalltau(first, second).statistic
    ours = kendall_tau_b(first, second)
    assert ours == pytest.approx(expected) if ours is not None else expected != expected


@given(st.lists(st.lists(st.integers(1, 3), min_size=3, max_size=3), min_size=2, max_size=4), st.permutations(range(3)))
def test_agreement_does_not_depend_on_the_order_of_storage(rankings: list[list[int]], order: list[int]) -> None:
    def alpha(given: list[list[int]]) -> float | None:
        return krippendorff(zip(*(comparisons(ranks).values() for ranks in given), strict=True), ordinal)

    moved = alpha([[ranks[place] for place in order] for ranks in rankings])
    assert moved == (pytest.approx(alpha(rankings)) if moved is not None else None)


def test_comparisons_hold_both_directions() -> None:
    assert comparisons([1, 2, 2]) == {(0, 1): 1, (1, 0): -1, (0, 2): 1, (2, 0): -1, (1, 2): 0, (2, 1): 0}
