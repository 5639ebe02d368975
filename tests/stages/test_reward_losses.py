"""The reward stage computes the objective that its settings name, from what the rows state, and nothing else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny import CONTEXT, jsonl_artifact, model_artifact, preference_rows, question, stage_run, tokenizer
from tutelage.data.completions import completion_of
from tutelage.data.pairs import render_pairs
from tutelage.model.heads import RewardModel
from tutelage.model.hub import load_causal_lm, load_reward_model
from tutelage.objectives.reward import bradley_terry, hinge, listwise
from tutelage.run.artifacts import ArtifactType
from tutelage.run.journal import read_journal
from tutelage.run.stage import StageRun
from tutelage.sources.preferences import Pair, preferences_of
from tutelage.stages import reward
from tutelage.stages.configs import RewardConfig

REPLIES = ["Paris.", "Rome.", "Oslo it is", "Lima, I think"]
Rows = list[dict[str, Any]]


def train(folder: Path, rows: Rows, **changes: Any) -> StageRun:
    inputs = {
        "model": model_artifact(folder / "m"),
        "preferences": jsonl_artifact(ArtifactType.PREFERENCES, folder / "p" / "preferences.jsonl", rows),
    }
    run = stage_run(folder / "out")
    settings: dict[str, Any] = {"num_steps": 1, "precision": "float32", "centring": 0.0, **changes}
    reward.run(RewardConfig(model="", preferences="", **settings), inputs, run)
    return run


def first_loss(folder: Path, rows: Rows, **changes: Any) -> float:
    loss: float = read_journal(train(folder, rows, **changes).journal.path)[0]["train/loss"]
    return loss


def scores_before(folder: Path, country: str, replies: list[str]) -> torch.Tensor:
    """What the untrained reward model gives these replies."""
    policy = load_causal_lm(folder / "m")
    model = RewardModel(policy.config, seed=0)
    model.model.load_state_dict(policy.model.state_dict())
    return reward.score(model, [completion_of(tokenizer(), question(country), reply) for reply in replies], 0)


def pair_row(chosen: str = "Paris.", rejected: str = "Rome.", **stated: Any) -> dict[str, Any]:
    return {"prompt": question("France"), "chosen": chosen, "rejected": rejected, "split": "train", **stated}


def ranked(country: str, ranks: list[int]) -> Rows:
    pairs = preferences_of({"prompt": question(country), "responses": REPLIES, "ranks": ranks})
    return [
        {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected, "weight": pair.weight}
        for pair in pairs
        if isinstance(pair, Pair)
    ]


@pytest.mark.parametrize(
    "ranks", [{"France": [1, 2, 3, 4], "Peru": [2, 1, 4, 3]}, {"France": [1, 2, 2, 2], "Peru": [4, 3, 1, 1]}]
)
def test_listwise_is_the_mean_over_the_ordered_pairs_of_each_ranking(
    tmp_path: Path, ranks: dict[str, list[int]]
) -> None:
    rows = [row for country, order in ranks.items() for row in ranked(country, order)]
    losses = {loss: first_loss(tmp_path / loss, rows, loss=loss) for loss in ("listwise", "logistic")}
    scores = torch.stack([scores_before(tmp_path / "listwise", country, REPLIES) for country in ranks])
    expected = listwise(scores, torch.tensor(list(ranks.values()))).mean()
    assert losses["listwise"] == pytest.approx(float(expected), abs=1e-5)
    without_ties = all(len(set(order)) == 4 for order in ranks.values())
    assert (abs(losses["listwise"] - losses["logistic"]) < 1e-5) == without_ties


@pytest.mark.parametrize(
    ("settings", "margins", "labels"),
    [
        ({}, [0, 0, 0], [0.75, 1, 1]),
        ({"labels": "hard", "margin": 0.3}, [0.3] * 3, [1, 1, 1]),
        ({"margin": "row", "margin_scale": 0.5}, [0.5, 1.5, 0], [0.75, 1, 1]),
        ({"loss": "hinge"}, [1, 1, 1], None),
        ({"loss": "hinge", "margin": "row"}, [1, 3, 1], None),
        ({"loss": "hinge", "margin": 2}, [2, 2, 2], None),
    ],
)
@pytest.mark.parametrize("centring", [0.0, 0.2])
def test_the_loss_takes_from_a_row_what_the_settings_say(
    tmp_path: Path, settings: dict[str, Any], margins: list[float], labels: list[float] | None, centring: float
) -> None:
    rows = [
        pair_row("Paris.", "Rome.", margin=1.0, probability=0.75, weight=0.5),
        pair_row("Paris.", "Oslo it is", margin=3),
        pair_row("Lima, I think", "Paris."),
    ]
    loss = first_loss(tmp_path, rows, centring=centring, **settings)
    scores = scores_before(tmp_path, "France", REPLIES)
    sides = scores[[0, 0, 3]], scores[[1, 2, 0]]
    weights, margin = torch.tensor([0.5, 1, 1]), torch.tensor(margins, dtype=torch.float32)
    if labels is None:
        expected = hinge(*sides, margin=margin, weights_B=weights, centring=centring)
    else:
        expected = bradley_terry(*sides, margin_B=margin, labels_B=torch.tensor(labels), weights_B=weights,
                                 centring=centring)  # fmt: skip
    assert loss == pytest.approx(float(expected.mean()), abs=1e-5)


@pytest.mark.parametrize("loss", ["logistic", "hinge", "listwise"])
def test_every_loss_learns_what_is_preferred(tmp_path: Path, loss: str) -> None:
    run = train(tmp_path, preference_rows(), loss=loss, num_steps=30, optimizer={"learning_rate": 0.01})
    rows = read_journal(run.journal.path)
    assert rows[-1]["accuracy"] > 0.9
    assert rows[-1]["train/loss"] < 0.5 * rows[0]["train/loss"]


def test_a_soft_label_is_learnt_as_its_log_odds(tmp_path: Path) -> None:
    rows = [pair_row(probability=0.8)]
    settings: dict[str, Any] = {"num_steps": 150, "optimizer": {"learning_rate": 0.01}}
    margins = {}
    for labels in ("soft", "hard"):
        model = load_reward_model(train(tmp_path / labels, rows, labels=labels, **settings).directory)
        replies = [completion_of(tokenizer(), question("France"), reply) for reply in ("Paris.", "Rome.")]
        chosen, rejected = reward.score(model, replies, 0)
        margins[labels] = float(chosen - rejected)
    assert margins["soft"] == pytest.approx(math.log(0.8 / 0.2), abs=0.1)
    assert margins["hard"] > margins["soft"] + 1


def test_what_rows_state_in_vain_and_what_they_leave_unsaid_is_told(tmp_path: Path) -> None:
    rows = [pair_row(probability=0.7), pair_row("Paris.", "Lima.")]
    notes = train(tmp_path, rows, loss="hinge", margin="row").notes
    assert any("1 pairs state a probability, which `hinge` has no use for" in note for note in notes)
    assert "2 of 2 pairs state no margin: theirs is 1" in notes


@pytest.mark.parametrize(
    "stated",
    [
        {"weight": math.nan}, {"weight": -1.0}, {"weight": None}, {"margin": math.inf}, {"margin": -0.1},
        {"margin": "much"}, {"probability": 1.1}, {"probability": math.nan},
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_are_counted_and_never_trained_on(stated: dict[str, Any]) -> None:
    pairs = render_pairs(tokenizer(), [pair_row(), pair_row(**stated)], CONTEXT)
    assert (len(pairs.train), pairs.num_impossible) == (1, 1)
    assert any("1 pairs have a weight, margin or probability that cannot be" in note for note in pairs.notes(CONTEXT))


def test_sides_that_differ_in_space_alone_are_equal() -> None:
    rows = [pair_row(), pair_row(rejected="Paris. ")]
    assert render_pairs(tokenizer(), rows, CONTEXT).num_equal == 1
