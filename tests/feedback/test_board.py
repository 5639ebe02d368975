"""Bradley–Terry strengths and position bias: published and hand-derived numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from tutelage.feedback.bradley_terry import board, groups, strengths
from tutelage.feedback.position import leaning, position_bias

# Wins at home and away of seven baseball teams in 1987 (Agresti 1990, Categorical Data Analysis, table 10.12):
# row beats column at home, column beats row there. In the order of the strengths that are asked below.
TEAMS = ["Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore"]
GAMES = """
-   4-3 4-2 4-3 6-1 4-2 6-0
3-3 -   4-2 4-3 6-0 6-1 4-3
2-5 4-3 -   2-4 4-3 4-2 6-0
3-3 5-1 2-5 -   4-3 4-2 6-1
5-1 2-5 3-3 4-2 -   5-2 6-0
2-5 3-3 3-4 4-3 4-2 -   2-4
2-5 1-5 1-6 2-4 1-6 3-4 -
"""


def baseball() -> np.ndarray:
    wins = np.zeros((7, 7))
    for home, row in enumerate(GAMES.split("\n")[1:-1]):
        for away, cell in enumerate(row.split()):
            if cell != "-":
                won, lost = cell.split("-")
                wins[home, away] += int(won)
                wins[away, home] += int(lost)
    return wins


def test_strengths_are_the_published_ones() -> None:
    # Firth 2005, Journal of Statistical Software 12(1), section 3: relative to Baltimore
    published = [1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839, 0.0]
    found = strengths(baseball())
    assert found - found[-1] == pytest.approx(published, abs=1e-4)


def test_two_models_by_hand_and_the_equation_of_the_maximum() -> None:
    # 3 wins to 1: p = 3 / 4, a difference of log 3, around 0
    assert strengths(np.array([[0, 3.0], [1, 0]])) == pytest.approx([math.log(3) / 2, -math.log(3) / 2])
    # with a prior: each model's expected wins are its wins, those against the dummy of strength 1 among them
    wins = np.array([[0, 5.0, 0], [0, 0, 2.5], [1, 0.5, 0]])
    raw = strengths(wins, prior=0.5)
    assert np.isfinite(raw).all()
    assert raw.sum() == pytest.approx(0)
    assert raw[0] > raw[1] > raw[2] - 1


def test_a_model_that_never_lost_has_a_finite_strength_with_a_prior() -> None:
    found = board([{("a", "b"): 1.0}] * 8, seed=0)
    assert [row.model for row in found] == ["a", "b"]
    assert 0 < found[0].strength < 3
    low, high = found[0].interval or (math.inf, -math.inf)
    assert low <= found[0].strength <= high
    assert (found[0].wins, found[0].games) == (8, 8)


def test_one_item_has_no_interval() -> None:
    assert [row.interval for row in board([{("a", "b"): 2.0, ("b", "a"): 1.0}], seed=0)] == [None, None]


def test_intervals_cover_the_truth_and_shrink_with_items() -> None:
    random = np.random.default_rng(1)
    truth = {"a": 0.8, "b": 0.0, "c": -0.8}
    covered, widths = 0, []
    for size in (60,) * 20 + (600,):
        results = []
        for _ in range(size):
            first, second = random.permutation(list(truth))[:2]
            wins = random.random() < 1 / (1 + math.exp(truth[second] - truth[first]))
            results.append({(first, second) if wins else (second, first): 1.0})
        rows = board(results, seed=2, resamples=100)
        intervals = [(row.model, *row.interval) for row in rows if row.interval]
        assert len(intervals) == 3
        covered += sum(low <= truth[model] <= high for model, low, high in intervals) if size == 60 else 0
        widths.append(max(high - low for _, low, high in intervals))
    assert 49 <= covered <= 60  # 95 % of 60 is 57; below 49 has a probability of 10⁻⁴
    assert widths[-1] < 0.5 * widths[0]


def test_groups_without_a_comparison_between_them_are_found() -> None:
    wins = np.zeros((4, 4))
    wins[0, 2] = wins[3, 1] = 1
    assert groups(wins) == [[0, 2], [1, 3]]
    wins[1, 0] = 0.5
    assert groups(wins) == [[0, 1, 2, 3]]
    assert board([], seed=0) == []


def test_leaning_and_the_sign_test() -> None:
    assert [leaning([1, 2]), leaning([2, 1]), leaning([1, 1])] == [1, -1, 0]
    assert leaning([1, 3, 2]) == 1  # two pairs for the earlier, one for the later
    assert leaning([2, 1, 1, 2]) == 0
    found = position_bias([1] * 9 + [-1] + [0] * 5)
    assert (found.n, found.first, found.share) == (10, 9, 0.9)
    assert found.p_value == pytest.approx(2 * binom.sf(8, 10, 0.5))  # 2 · (10 + 1) / 2¹⁰ = 0.0215
    assert found.ci_low == pytest.approx(0.5958, abs=1e-4)  # Wilson
    assert position_bias([0, 0]).p_value is None
