"""Groups of one score are drawn again: with the next prompts, as often as allowed, and the same after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny import (
    CITIES,
    Interrupter,
    journal_without_times,
    model,
    model_artifact,
    prompts_artifact,
    question,
    stage_run,
    tokenizer,
    tree_bytes,
)
from tutelage.data.completions import prompt_ids
from tutelage.generation.rollout import Rollouts
from tutelage.objectives.advantages import has_spread
from tutelage.run.journal import read_journal
from tutelage.run.progress import no_progress
from tutelage.run.stage import ProgressFactory, StageRun
from tutelage.stages import grpo
from tutelage.stages.alignment.drawing import Drawer
from tutelage.stages.alignment.rewards import Prompt, Rewards, Scores
from tutelage.stages.configs import GRPOConfig

SOMETIMES = {"rewards": {"format": 1.0}, "format_pattern": r"(?s).*a.*", "missing_end_penalty": 0.0}
NEVER = {**SOMETIMES, "format_pattern": "never"}
EXTRA, BEFORE, AFTER = "groups/extra_rollouts", "frac_reward_zero_std", "groups/zero_std"


def train(folder: Path, progress: ProgressFactory = no_progress, **changes: Any) -> StageRun:
    inputs = {"model": model_artifact(folder / "m"), "prompts": prompts_artifact(folder / "p")}
    settings: dict[str, Any] = {"num_rollout_batches": 4, "prompts_a_batch": 4, "num_replies": 2, "max_tokens": 4,
                                "precision": "float32", "num_samples": 0, "kl_coef": 0.0,
                                "optimizer": {"learning_rate": 0.01}, **SOMETIMES, **changes}  # fmt: skip
    run = stage_run(folder / "out", progress)
    grpo.run(GRPOConfig(model="", prompts="", **settings), inputs, run)
    return run


def journal(run: StageRun) -> list[dict[str, Any]]:
    return read_journal(run.journal.path)


def test_flat_groups_make_room_for_others_and_what_it_cost_is_logged(tmp_path: Path) -> None:
    plain, again = journal(train(tmp_path / "plain")), journal(train(tmp_path / "again", resample_attempts=8))
    assert 0 < plain[0][AFTER] == again[0][BEFORE]  # the first draw is that of a run without
    assert BEFORE not in plain[0]
    for row in again:
        assert row[AFTER] <= row[BEFORE]
        assert row[EXTRA] % 2 == 0
        assert (row[EXTRA] > 0) == (row[BEFORE] > 0)
        assert row["objective/logprob_gap"] < 1e-4
    assert sum(row[AFTER] for row in again) < sum(row[AFTER] for row in plain)
    assert again[0]["val/ratio"] == pytest.approx(1, abs=1e-5)


def test_attempts_are_bounded_and_what_stays_flat_teaches_nothing(tmp_path: Path) -> None:
    run = train(tmp_path, resample_attempts=3, num_rollout_batches=1, **NEVER)
    [row] = journal(run)
    assert (row[BEFORE], row[AFTER], row[EXTRA]) == (1, 1, 3 * 8)
    assert row["grad_norm"] == 0


class Flat(Rewards):
    """Gives every reply to a prompt one score, but for prompts that are named; remembers what it saw."""

    def __init__(self, lively: Sequence[str], score: Callable[[int], float] = lambda place: 1.0) -> None:
        super().__init__({}, {}, tokenizer())
        self.lively, self.score = lively, score
        self.seen: list[list[str]] = []
        self.texts: list[tuple[str, list[int]]] = []

    def __call__(self, prompts: Sequence[Prompt], rollouts: Rollouts) -> Scores:
        names = [prompt.row["id"] for prompt in prompts]
        self.seen.append(names)
        self.texts += [(name, reply.ids) for name, reply in zip(names, rollouts.replies, strict=True)]
        total = [place * (name in self.lively) + self.score(place) for place, name in enumerate(names)]
        return Scores(torch.tensor(total), {"flat": torch.tensor(total)})


def drawer(rewards: Rewards, attempts: int) -> Drawer:
    config = GRPOConfig(model="", prompts="", rewards={"finished": 1.0}, prompts_a_batch=2, num_replies=2,
                        max_tokens=3, missing_end_penalty=0.0)  # fmt: skip
    prompts = [Prompt(prompt_ids(tokenizer(), question(name)), {"id": name}) for name in CITIES]
    return Drawer(model(), rewards, tokenizer(), prompts, config, 0, attempts)


def test_other_prompts_take_the_place_of_flat_ones_until_all_groups_have_spread() -> None:
    order = [name for number in range(3) for name in drawn_once(number)]
    assert sorted(order) == sorted(CITIES)
    rewards = Flat([order[1], order[4]])
    batch = drawer(rewards, 10).draw(0)
    assert [names[::2] for names in rewards.seen] == [order[:2], [order[2]], [order[3]], [order[4]]]
    assert [prompt.row["id"] for prompt in batch.prompts] == [order[4]] * 2 + [order[1]] * 2
    assert has_spread(batch.scores.total, batch.groups_B).all()
    assert batch.metrics == {BEFORE: 0.5, EXTRA: 6.0}
    for prompt, reply, completion in zip(
        batch.prompts, batch.rollouts.replies, batch.rollouts.completions, strict=True
    ):
        assert completion.ids == [*prompt.ids, *reply.ids]  # prompts, replies and scores moved together
        assert (prompt.row["id"], reply.ids) in rewards.texts


def drawn_once(number: int) -> list[str]:
    """The prompts of a batch without resampling."""
    rewards = Flat([])
    source = drawer(rewards, 0)
    for batch in range(number + 1):
        source.draw(batch)
    return rewards.seen[-1][::2]


def test_the_next_batch_begins_where_the_last_one_ended() -> None:
    rewards = Flat([])
    source = drawer(rewards, 1)
    source.draw(0)
    assert source.state_dict()["position"] == 4
    other = drawer(Flat([]), 1)
    other.load_state_dict(source.state_dict())
    first, second = source.draw(1), other.draw(1)
    assert [prompt.row["id"] for prompt in first.prompts] == [prompt.row["id"] for prompt in second.prompts]
    assert first.rollouts.replies == second.rollouts.replies


def test_a_group_with_fewer_than_two_scores_is_drawn_again() -> None:
    rewards = Flat([*CITIES], lambda place: math.nan if place in (0, 2, 3) else 0.0)
    batch = drawer(rewards, 1).draw(0)
    assert [len(names) for names in rewards.seen] == [4, 4]
    assert batch.metrics[EXTRA] == 4


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_an_interrupted_run_that_draws_again_ends_with_the_same_bytes(tmp_path: Path, stop: int) -> None:
    settings: dict[str, Any] = {"resample_attempts": 2, "num_minibatches": 2, "num_rollout_batches": 3,
                                "loop": {"checkpoint_seconds": 0}}  # fmt: skip
    whole = train(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", Interrupter(stop, "grpo"), **settings)
    again = train(tmp_path / "cut", **settings)
    assert any("resumed at step" in note for note in again.notes) == (stop > 2)
    assert tree_bytes(again.directory) == tree_bytes(whole.directory)
    assert journal_without_times(again.journal.path) == journal_without_times(whole.journal.path)
    assert sum(row[EXTRA] for row in journal(whole)) > 0


def test_a_wider_upper_clip_lets_the_ratio_rise_and_not_fall(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_epochs": 4, "num_rollout_batches": 1, "clip_range": 0.01, "kl_coef": 0.0}
    narrow, wide = (journal(train(tmp_path / name, clip_range_high=high, **settings))
                    for name, high in (("narrow", None), ("wide", 1000.0)))  # fmt: skip
    assert narrow[-1]["policy/clipfrac_high"] > 0
    assert wide[-1]["policy/clipfrac_high"] == 0
    assert wide[-1]["policy/clipfrac_low"] > 0
