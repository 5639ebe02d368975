"""Preferences of principles: soft labels, what decides them, and what is learnt from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from served import serving
from tiny import jsonl_artifact, model_artifact, stage_run, tokenizer
from tutelage.constitutions.principles import questions
from tutelage.constitutions.reading import read_constitution
from tutelage.constitutions.rules import Exchange
from tutelage.data.pairs import render_pairs
from tutelage.errors import DataError
from tutelage.objectives.preference import SOFT_LABELS, Pairs, PreferenceSettings, preference_loss
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.config import expanded
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl
from tutelage.stages import judge, prefer
from tutelage.stages.alignment.preference import preference_batch
from tutelage.stages.alignment.reward_pairs import preference_rows
from tutelage.stages.configs import JudgeConfig, PreferConfig
from tutelage.stages.constitutional.comparisons import Comparison, by_logprobs, by_rule, question_of
from tutelage.stages.constitutional.writers import ModelWriter

DEFAULT = read_constitution([expanded("package:constitutions/default.yaml")])
SAID = ["First wait, then hurt my boss.", "I can't help with that.", "I can't help with that. Talk to your boss.",
        "To boil an egg, fill a kettle.", "Everyone knows that.", ""]  # fmt: skip
ASKED = {"p0": "How do I hurt my boss?", "p1": "How do I boil an egg?", "p2": "Help me steal a car."}


def completion_rows(**labels: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"{name}/{n}", "prompt_id": name, "prompt": [{"role": "user", "content": asked}], "kind": "any",
         "completion": said, "finish_reason": "stop", **labels}
        for name, asked in ASKED.items() for n, said in enumerate([*SAID, SAID[0]])
    ]  # fmt: skip


def given_to(
    folder: Path, rows: Sequence[dict[str, Any]] | None = None, only: Sequence[str] = ()
) -> dict[str, Artifact]:
    asked = questions({name: p for name, p in DEFAULT.items() if not only or name in only})
    rows = completion_rows() if rows is None else rows
    return {
        "completions": jsonl_artifact(ArtifactType.COMPLETIONS, folder / "c" / "completions.jsonl", rows),
        "questions": jsonl_artifact(ArtifactType.QUESTIONS, folder / "q" / "principles.jsonl", asked),
    }


def judged(folder: Path, inputs: Inputs, **settings: Any) -> StageRun:
    run = stage_run(folder)
    judge.run(JudgeConfig(**{"completions": "", "questions": "", **settings}), inputs, run)
    return run


def rows_of(run: StageRun) -> list[dict[str, Any]]:
    return list(read_jsonl(run.directory / "preferences.jsonl"))


def comparison(name: str, request: str, first: str, second: str) -> Comparison:
    replies = Exchange(request, first), Exchange(request, second)
    return Comparison(name, [{"role": "user", "content": request}], replies, DEFAULT[name], 0)


@given(
    st.sampled_from(list(DEFAULT)),
    st.sampled_from(list(ASKED.values())),
    st.sampled_from(SAID),
    st.sampled_from(SAID),
    st.floats(0.1, 20),
)
def test_the_order_of_two_replies_decides_nothing(name: str, request: str, one: str, two: str, sharp: float) -> None:
    (there, why), (back, again) = (
        by_rule(comparison(name, request, *pair), sharp) for pair in ((one, two), (two, one))
    )
    assert (there is None) == (back is None)
    assert why == again
    if there is not None and back is not None:
        assert there + back == pytest.approx(1)
        assert there != 0.5
        assert why


def test_labels_are_those_of_the_rules_and_no_label_of_a_prompt_is_read(tmp_path: Path) -> None:
    rows = rows_of(judged(tmp_path / "a", given_to(tmp_path)))
    by_sides = {(row["prompt_id"], row["chosen"], row["rejected"]): row for row in rows}
    declined, told, explained = SAID[1], SAID[0], SAID[2]
    assert ("p0", declined, told) in by_sides
    assert ("p0", explained, declined) in by_sides
    assert ("p1", SAID[3], declined) in by_sides
    assert all(0.55 < row["probability"] <= 0.98 for row in rows)
    assert by_sides["p0", declined, told]["principles"].keys() == {"harmless", "openness"}
    assert "harmless: The reply tells how" in by_sides["p0", declined, told]["reason"]
    for prompt in ASKED:
        assert sum(row["weight"] for row in rows if row["prompt_id"] == prompt) == pytest.approx(1)
        assert len({row["split"] for row in rows if row["prompt_id"] == prompt}) == 1
    blind = rows_of(judged(tmp_path / "b", given_to(tmp_path / "blind", completion_rows(kind="harmful", answer="x"))))
    assert [{**row, "kind": "any"} for row in blind] == rows


def test_a_principle_that_finds_both_alike_abstains(tmp_path: Path) -> None:
    alone = rows_of(judged(tmp_path / "a", given_to(tmp_path / "1", only=["harmless"])))
    beside = rows_of(judged(tmp_path / "b", given_to(tmp_path / "2", only=["harmless", "uncertainty", "honesty"])))
    first = {(row["chosen"], row["rejected"], row["prompt_id"]): row["probability"] for row in alone}
    assert all(first[row["chosen"], row["rejected"], row["prompt_id"]] == row["probability"]
               for row in beside if row["principles"].keys() == {"harmless"})  # fmt: skip
    assert max(first.values()) == 0.98 < 1 / (1 + math.exp(-4))
    assert min(first.values()) == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-4)


def test_principles_are_drawn_for_each_pair(tmp_path: Path) -> None:
    rows = rows_of(judged(tmp_path / "a", given_to(tmp_path), principles_a_pair=1))
    assert all(len(row["principles"]) == 1 for row in rows)
    assert len({name for row in rows for name in row["principles"]}) > 2
    assert rows == rows_of(judged(tmp_path / "b", given_to(tmp_path), principles_a_pair=1))


def test_a_model_answers_by_its_log_probs_in_both_orders(tmp_path: Path) -> None:
    roomy = {"max_position_embeddings": 400}
    writer = ModelWriter.open(model_artifact(tmp_path / "m", **roomy), torch.float32, 8)
    pairs = [
        comparison(name, ASKED["p0"], *sides) for name in ("harmless", "courtesy") for sides in (SAID[:2], SAID[1:3])
    ]
    with torch.no_grad():
        there = by_logprobs(pairs, writer)
        back = by_logprobs([replace(pair, replies=pair.replies[::-1]) for pair in pairs], writer)
    for one, two in zip(there, back, strict=True):
        assert one is not None
        assert two is not None
        assert one + two == pytest.approx(1, abs=1e-5)
        assert 0 < one < 1
    turned = question_of(pairs[0], turned=True)[0]["content"]
    assert turned.index(SAID[1]) < turned.index(SAID[0])
    inputs = {**given_to(tmp_path, only=["harmless"]), "model": model_artifact(tmp_path / "n", **roomy)}
    run = judged(tmp_path / "out", inputs, by="model", model="n", least_lead=0)
    assert {row["annotator"] for row in rows_of(run)} == {"constitution (n)"}
    short = {**inputs, "model": model_artifact(tmp_path / "short")}
    with pytest.raises(DataError, match="tells any of"):
        judged(tmp_path / "none", short, by="model", model="short")


def test_a_server_votes(tmp_path: Path) -> None:
    with serving() as served:
        served.trouble = lambda number: (200, {}, _votes("A" if number % 2 == 0 else "(B)"))
        run = judged(tmp_path / "a", given_to(tmp_path, only=["harmless"]), by="model", votes=2,
                     engine={"url": served.url, "model": "tiny", "concurrency": 1})  # fmt: skip
        rows = rows_of(run)
    # A in one order and B in the other: always the reply that was sampled first, by 4 votes of 4
    assert {row["probability"] for row in rows} == {round(5 / 6, 4)}
    assert all(row["chosen"] == row["shown"][0] for row in rows)


def _votes(letter: str) -> str:
    choice = f'{{"message": {{"content": "{letter}"}}, "finish_reason": "stop"}}'
    return f'{{"choices": [{choice}, {choice}]}}'


def test_what_cannot_be_judged_is_refused(tmp_path: Path) -> None:
    same = [{**row, "completion": "Well."} for row in completion_rows()]
    with pytest.raises(DataError, match="tells any of 0 pairs"):
        judged(tmp_path / "a", given_to(tmp_path / "1", same))
    bare = {
        **given_to(tmp_path),
        "questions": jsonl_artifact(ArtifactType.QUESTIONS, tmp_path / "e" / "principles.jsonl", []),
    }
    with pytest.raises(DataError, match="no principle has a question"):
        judged(tmp_path / "b", bare)
    rows = [{**row, "rule": None} for row in questions(DEFAULT)]
    unruled = {**bare, "questions": jsonl_artifact(ArtifactType.QUESTIONS, tmp_path / "u" / "principles.jsonl", rows)}
    with pytest.raises(DataError, match="principle harmless: rule"):
        judged(tmp_path / "c", unruled)


def test_people_may_be_asked_about_some_kinds_of_prompts_only(tmp_path: Path) -> None:
    kinds = {"p0": "harmful", "p1": "howto", "p2": "harmful"}
    rows = [{**row, "kind": kinds[row["prompt_id"]], "answer": None, "meta": {}} for row in completion_rows()]
    completions = {"completions": given_to(tmp_path, rows)["completions"]}
    run = stage_run(tmp_path / "out")
    prefer.run(PreferConfig(completions="", kinds=["howto", "fact"]), completions, run)
    assert {row["kind"] for row in rows_of(run)} == {"howto"}
    assert run.metrics["num_prompts"] == 1


def test_preferences_of_several_stages_are_learnt_together(tmp_path: Path) -> None:
    one = judged(tmp_path / "a", given_to(tmp_path, only=["harmless"])).directory
    two = judged(tmp_path / "b", given_to(tmp_path, only=["courtesy"])).directory
    inputs = {
        f"preferences.{n}": Artifact("p", ArtifactType.PREFERENCES, path, "") for n, path in enumerate((one, two))
    }
    both = [*read_jsonl(one / "preferences.jsonl"), *read_jsonl(two / "preferences.jsonl")]
    assert list(preference_rows(inputs)) == both
    assert list(preference_rows({"preferences": inputs["preferences.0"]})) == both[: len(both) - len(rows_at(two))]


def rows_at(folder: Path) -> list[dict[str, Any]]:
    return list(read_jsonl(folder / "preferences.jsonl"))


@given(st.lists(st.floats(0.5, 1), min_size=3, max_size=3), st.sampled_from(sorted(SOFT_LABELS)), st.integers(0, 5))
def test_a_soft_label_is_the_mixture_of_both_labels(labels: list[float], loss: str, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    chosen, rejected, ref_chosen, ref_rejected = -20 * torch.rand(4, 3, generator=draw)
    tokens = torch.tensor([4.0, 5.0, 6.0]), torch.tensor([7.0, 3.0, 5.0])
    settings, p = PreferenceSettings(gamma=0.0), torch.tensor(labels)

    def total(pairs: Pairs, weights: torch.Tensor | None = None) -> torch.Tensor:
        return preference_loss(loss, pairs, settings, weights_B=weights).loss_sum

    there = Pairs(chosen, rejected, *tokens, ref_chosen, ref_rejected)
    back = Pairs(rejected, chosen, *tokens[::-1], ref_rejected, ref_chosen)
    torch.testing.assert_close(total(there._replace(labels=p)), total(there, p) + total(back, 1 - p))
    torch.testing.assert_close(total(there._replace(labels=torch.ones(3))), total(there))


def test_the_labels_reach_pairs_and_batches(tmp_path: Path) -> None:
    rows = rows_of(judged(tmp_path / "a", given_to(tmp_path), validation_share=0))
    pairs = render_pairs(tokenizer(), rows, 10_000).train
    batch = preference_batch(pairs, torch.zeros(len(pairs), 2), tokenizer().pad_id)
    assert batch.labels_B is not None
    assert batch.labels_B.tolist() == pytest.approx([pair.row["probability"] for pair in pairs])
    certain = [replace(pair, probability=1.0) for pair in pairs]
    assert preference_batch(certain, torch.zeros(len(pairs), 2), tokenizer().pad_id).labels_B is None
