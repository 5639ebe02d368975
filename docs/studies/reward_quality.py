"""A reward model on pairs of which one in ten is labelled wrongly: how near to the Bayes ceiling, how well calibrated?

    .venv/bin/python docs/studies/reward_quality.py

A good reply always beats a bad one; then 10 % of the labels are flipped. Nobody can order more than 90 % of such labels
rightly, and the honest confidence in every pair is 0.9, a margin of ln 9. Writes docs/studies/reward_quality.json and
docs/images/reliability.svg.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from plot import Series, plot
from torch import Tensor
from toy import WORTH_V, ToyPairs, in_order, margins, train_reward_model, uniform_replies

from tutelage.objectives.reward import calibration_error

DOCS = Path(__file__).resolve().parents[1]
FLIPS = 0.1
EDGE = 2.0  # a reply is good if its tokens are worth this or more, bad if minus this or less


def flipped_pairs(count: int, seed: int) -> ToyPairs:
    """A good and a bad reply each, the worse one labelled as the better with probability `FLIPS`."""
    generator = torch.Generator().manual_seed(seed)
    replies = uniform_replies(8 * count + 100, generator)
    total = WORTH_V[replies].sum(1)
    good, bad = replies[total >= EDGE][:count], replies[total <= -EDGE][:count]
    right = torch.rand(count, generator=generator) >= FLIPS
    return in_order(good, bad, right, right)


def measure(num_pairs: int, num_steps: int, seed: int = 0, num_test: int = 2000) -> dict[str, Any]:
    """Accuracy on noisy and on clean labels, ECE, and the margins of held-out pairs."""
    train, validation = flipped_pairs(num_pairs, seed), flipped_pairs(500, seed + 1000)
    test = flipped_pairs(num_test, seed + 2000)
    model = train_reward_model(train, validation, num_steps=num_steps, seed=seed)
    found = margins(model, test)
    ordered = found > 0
    return {
        "accuracy": float(ordered.float().mean()),
        "ceiling": float(test.right.float().mean()),
        "clean_accuracy": float((ordered == test.right).float().mean()),
        "ece": float(calibration_error(found)),
        "margins": found,
    }


def reliability(margins_N: Tensor, num_bins: int = 10) -> list[tuple[float, float]]:
    """(mean confidence, accuracy) of the predicted winner, in bins of equal numbers of pairs."""
    order = margins_N.abs().argsort()
    bins = [margins_N[part] for part in order.tensor_split(num_bins)]
    return [(float(part.abs().sigmoid().mean()), float((part > 0).float().mean())) for part in bins]


def draw(rows: dict[str, Any]) -> None:
    """Accuracy against confidence for every number of pairs."""
    curves = [
        Series(f"{size} pairs", [(x, y) for x, y in row["reliability"]], colour=place, dots=True)
        for place, (size, row) in enumerate(rows.items())
    ]
    ideal = Series("calibrated", [(0.5, 0.5), (1.0, 1.0)], colour=3, dashed=True)
    picture = plot("Reliability of a reward model", "confidence in the winner, σ(|Δ|)", "share right", [*curves, ideal])
    (DOCS / "images" / "reliability.svg").write_text(picture, encoding="utf-8")


def main() -> None:
    """Measure on three sizes, write the numbers, draw."""
    rows: dict[str, Any] = {}
    for num_pairs, num_steps in [(200, 100), (1000, 200), (4000, 400)]:
        found = measure(num_pairs, num_steps, num_test=4000)
        found["reliability"] = reliability(found.pop("margins"))
        rows[str(num_pairs)] = found
        print(num_pairs, {name: round(found[name], 4) for name in found if name != "reliability"}, flush=True)
    (DOCS / "studies" / "reward_quality.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    draw(rows)


if __name__ == "__main__":
    main()
