from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.sources.files import expand
from tutelage.sources.preferences import Pair, Unpaired, preferences, preferences_of, split_of
from tutelage.sources.rows import ProblemLog, RowRefused
from tutelage.sources.strength import strength_of

Q, A, B = (
    {"role": role, "content": content} for role, content in (("user", "Q"), ("assistant", "A"), ("assistant", "B"))
)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "chosen": "A", "rejected": "B"},
        {"prompt": [Q], "chosen": [A], "rejected": [B]},
        {"prompt": "Q", "chosen": [Q, A], "rejected": [Q, B]},
        {"chosen": [Q, A], "rejected": [Q, B]},
        {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
        {"prompt": "\n\nHuman: Q\n\nAssistant:", "chosen": " A".strip(), "rejected": "B"},
        {"prompt": "Q", "response_a": "A", "response_b": "B", "preferred": "a", "reason": "better"},
        {"prompt": "Q", "response_a": "B", "response_b": "A", "preferred": "response_b"},
        {"prompt": "Q", "responses": ["B", "A"], "ranks": [2, 1]},
    ],
)
def test_formats_are_detected(row: dict[str, Any]) -> None:
    (pair,) = preferences_of(row)
    assert isinstance(pair, Pair)
    assert (pair.prompt, pair.chosen, pair.rejected, pair.weight) == ([Q], "A", "B", 1.0)


def test_the_order_shown_is_kept_where_it_is_known() -> None:
    first = {"prompt": "Q", "response_a": "A", "response_b": "B", "preferred": "b"}
    (pair,) = preferences_of(first)
    assert isinstance(pair, Pair)
    assert (pair.chosen, pair.shown) == ("B", ("A", "B"))


@given(st.lists(st.integers(1, 4), min_size=2, max_size=6))
def test_a_ranking_gives_every_ordered_pair_once(ranks: list[int]) -> None:
    replies = [f"reply {number}" for number in range(len(ranks))]
    row = {"prompt": "Q", "responses": replies, "ranks": ranks}
    if len(set(ranks)) == 1:
        with pytest.raises(RowRefused, match="tie"):
            preferences_of(row)
        return
    pairs = [pair for pair in preferences_of(row) if isinstance(pair, Pair)]
    ordered = {
        (one, two)
        for one, r in zip(replies, ranks, strict=True)
        for two, s in zip(replies, ranks, strict=True)
        if r < s
    }
    assert len(pairs) == len(ordered)
    assert {(pair.chosen, pair.rejected) for pair in pairs} == ordered
    everything = len(ranks) * (len(ranks) - 1) / 2
    assert sum(pair.weight for pair in pairs) == pytest.approx(len(pairs) / everything)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Q", "chosen": "A", "rejected": " A\n"}, "chosen equals rejected"),
        ({"prompt": "Q", "chosen": "", "rejected": "B"}, "`chosen` is empty"),
        ({"prompt": "Q", "chosen": "A", "rejected": " "}, "`rejected` is empty"),
        ({"prompt": " ", "chosen": "A", "rejected": "B"}, "empty user turn"),
        ({"chosen": "A", "rejected": "B"}, "without a prompt"),
        ({"prompt": [Q, A], "chosen": "A", "rejected": "B"}, "does not end with the user"),
        ({"prompt": "other", "chosen": [Q, A], "rejected": [Q, B]}, "not the beginning"),
        ({"chosen": [Q, A], "rejected": [{**Q, "content": "P"}, B]}, "do not share"),
        ({"chosen": [Q], "rejected": [Q, B]}, "does not end with the assistant"),
        ({"prompt": "Q", "response_a": "A", "response_b": "B", "preferred": "tie"}, "a tie"),
        ({"prompt": "Q", "response_a": "A", "response_b": "B", "preferred": 2}, "names neither"),
        ({"prompt": "Q", "responses": ["A"], "ranks": [1]}, "one length"),
        ({"prompt": "Q", "responses": ["A", "B"], "ranks": [1, float("nan")]}, "not all numbers"),
        ({"prompt": "Q", "responses": ["A", "A "], "ranks": [1, 2]}, "a reply twice"),
        ({"prompt": "Q", "responses": ["A", "A", "B"], "ranks": [1, 1, 2]}, "a reply twice"),
        ({"prompt": "Q", "responses": ["A", "B"], "ranks": [True, False]}, "not all numbers"),
        ({"prompt": "Q", "winner": "A", "rejected": "B"}, "no accepted format"),
        ({"prompt": "Q", "completion": "A", "label": "good"}, "`label` is neither"),
        ({"prompt": "Q", "completion": "A", "label": 1}, "`label` is neither"),
        ({"prompt": "Q", "completion": "A", "label": 0.0}, "`label` is neither"),
        ({"prompt": "Q", "completion": " ", "label": True}, "`completion` is empty"),
    ],
)
def test_rows_without_a_preference(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowRefused, match=reason) as caught:
        preferences_of(row)
    assert caught.value.mend


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        ({}, {}),
        ({"margin": 2, "weight": 0.5, "probability": 0.75}, {"margin": 2.0, "weight": 0.5, "probability": 0.75}),
        ({"chosen_rating": 5, "rejected_rating": 2}, {"margin": 3.0}),
        ({"score_chosen": "8.5", "score_rejected": "8"}, {"margin": 0.5}),
        ({"margin": "", "weight": None, "chosen_score": 3}, {}),
        ({"margin": 1, "chosen_rating": 5, "rejected_rating": 2}, {"margin": 1.0}),
    ],
)
def test_how_strongly_a_row_prefers_is_kept(stated: dict[str, Any], kept: dict[str, float]) -> None:
    assert strength_of({"prompt": "Q", "chosen": "A", "rejected": "B", **stated}) == kept


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ({"probability": 1.5}, "not between 0 and 1"),
        ({"probability": 0.3}, "speaks for the rejected"),
        ({"weight": -1}, "`weight` is negative"),
        ({"weight": True}, "`weight` is no number"),
        ({"margin": "much"}, "`margin` is no number"),
        ({"margin": float("nan")}, "`margin` is no number"),
        ({"margin": 10**400}, "`margin` is no number"),
        ({"margin": -1}, "`margin` is negative"),
        ({"chosen_rating": 2, "rejected_rating": 5}, "rated below"),
    ],
)
def test_a_strength_that_cannot_be_meant_is_refused(stated: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowRefused, match=reason) as caught:
        strength_of({"prompt": "Q", "chosen": "A", "rejected": "B", **stated})
    assert caught.value.mend


def test_the_nearest_format_is_named() -> None:
    with pytest.raises(RowRefused) as caught:
        preferences_of({"prompt": "Q", "winner": "A", "loser": "B"})
    assert "rename `winner` to `chosen`, rename `loser` to `rejected`" in caught.value.mend


def test_unpaired_rows_are_a_kind_of_their_own_and_not_pairs(tmp_path: Path) -> None:
    assert preferences_of({"prompt": "Q", "completion": "A", "label": True}) == [Unpaired([Q], "A", True)]
    (tmp_path / "a.jsonl").write_text('{"prompt": "Q", "completion": "A", "label": true}\n')
    log = ProblemLog(io.BytesIO(), "skip")
    (row,) = preferences(expand(str(tmp_path / "a.jsonl")), 0.0, log)
    assert (row["prompt"], row["completion"], row["label"], row["split"]) == ([Q], "A", True, "train")
    assert "chosen" not in row


@pytest.mark.parametrize(("label", "meant"), [(True, True), (False, False), ("true", True), ("False", False)])
def test_labels_are_true_and_false_in_tables_too(label: Any, meant: bool) -> None:
    assert preferences_of({"prompt": "Q", "completion": "A", "label": label}) == [Unpaired([Q], "A", meant)]


def test_the_split_follows_the_prompt_and_its_share() -> None:
    prompts = [[{"role": "user", "content": f"question {number}"}] for number in range(2000)]
    splits = [split_of(prompt, 0.1) for prompt in prompts]
    assert splits == [split_of(prompt, 0.1) for prompt in prompts]
    assert 150 < splits.count("validation") < 250
    assert {split_of(prompt, 0.0) for prompt in prompts} == {"train"}
    assert all(
        split_of(prompt, 0.2) == "validation" for prompt, split in zip(prompts, splits, strict=True) if split != "train"
    )


def test_real_pairs(shared_data: Path) -> None:
    log = ProblemLog(io.BytesIO(), "skip")
    (file,) = (file for file in expand(str(shared_data / "hh_rlhf_harmless")) if file.suffix)
    rows = list(preferences([file], 0.1, log))
    assert (len(rows), log.counts.total()) == (1791, 9)
    assert all(row["prompt"][-1]["role"] == "user" and row["chosen"] != row["rejected"] for row in rows)
    assert not any("\n\nHuman:" in row["chosen"] for row in rows)
    assert 120 < Counter(row["split"] for row in rows)["validation"] < 240
