"""The studies in docs/studies, small: what their pictures claim is asserted here."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from types import ModuleType

import pytest
import torch

DOCS = Path(__file__).resolve().parents[1] / "docs"
MODULES = ("reward_quality", "overoptimisation", "toy", "plot")


@pytest.fixture(scope="module")
def studies() -> Iterator[dict[str, ModuleType]]:
    before = list(sys.path)
    sys.path.insert(0, str(DOCS / "studies"))
    import overoptimisation
    import reward_quality

    yield {"quality": reward_quality, "over": overoptimisation}
    sys.path[:] = before
    for name in MODULES:
        sys.modules.pop(name, None)


def test_a_reward_model_reaches_the_ceiling_of_flipped_labels_and_is_calibrated(studies: dict[str, ModuleType]) -> None:
    found = studies["quality"].measure(num_pairs=1000, num_steps=200, num_test=1000)
    assert found["accuracy"] > found["ceiling"] - 0.01
    assert found["clean_accuracy"] > 0.985
    assert found["ece"] < 0.05
    assert found["margins"].abs().mean().item() == pytest.approx(math.log(9), abs=0.4)  # σ(ln 9) = 0.9


def test_best_of_n_is_the_mean_over_all_subsets(studies: dict[str, ModuleType]) -> None:
    generator = torch.Generator().manual_seed(0)
    proxy, gold = torch.randn(2, 9, dtype=torch.float64, generator=generator)
    for n in (1, 3, 9):
        winners = [max(subset, key=lambda i: proxy[i]) for subset in combinations(range(9), n)]
        found = studies["over"].best_of_n(proxy, gold, n)
        assert found == pytest.approx((proxy[winners].mean().item(), gold[winners].mean().item()))
    assert studies["over"].kl_of_best_of(1) == 0
    assert studies["over"].kl_of_best_of(4) == pytest.approx(math.log(4) - 0.75)


def test_the_gold_score_is_worth_at_most_twice_a_token(studies: dict[str, ModuleType]) -> None:
    best = torch.full((1, 16), 15)
    assert studies["over"].gold(best).item() == pytest.approx(2 * 1.5 - 0.5 * 14)


def test_the_published_curves_show_overoptimisation() -> None:
    """Of the committed points: the proxy rises on, gold peaks and falls; with more pairs the peak is higher, later."""
    rows = json.loads((DOCS / "studies" / "overoptimisation.json").read_text(encoding="utf-8"))
    heights, places = [], []
    for size in (50, 500, 5000):
        curves = [row["ppo"] for row in rows if row["num_pairs"] == size]
        root_kl, proxy, gold = (
            [sum(curve[i][axis] for curve in curves) / len(curves) for i in range(len(curves[0]))] for axis in range(3)
        )
        assert proxy[-1] > 0.9 * max(proxy)
        assert gold[-1] < max(gold) - 1
        heights.append(max(gold))
        places.append(root_kl[gold.index(max(gold))])
    assert heights == sorted(heights)
    assert places[0] < places[-1]
