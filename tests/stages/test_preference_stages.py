"""DPO's family, ORPO and KTO: where they begin, what they learn, what they leave out, and the reference's cache."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny import (
    CITIES,
    CONTEXT,
    jsonl_artifact,
    model_artifact,
    preference_rows,
    preferences_artifact,
    question,
    stage_run,
    tokenizer,
    tree_bytes,
)
from tutelage.data.completions import sequence_logprobs
from tutelage.data.labelled import Labelled, render_labelled
from tutelage.data.train_tokenizer import train_bpe
from tutelage.errors import DataError, TrainingError
from tutelage.model.hub import load_causal_lm
from tutelage.objectives.preference import PREFERENCE_LOSSES, WITHOUT_REFERENCE, kto_baseline
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.journal import read_journal
from tutelage.run.stage import StageRun
from tutelage.sources.store import read_jsonl
from tutelage.stages import dpo, kto, orpo
from tutelage.stages.alignment import preference
from tutelage.stages.alignment.notes import preference_notes
from tutelage.stages.configs import DPOConfig, KTOConfig, ORPOConfig

STAGES: dict[str, Any] = {"dpo": (dpo.run, DPOConfig), "orpo": (orpo.run, ORPOConfig), "kto": (kto.run, KTOConfig)}


def labelled_rows() -> list[dict[str, Any]]:
    return [
        {
            "id": f"{country}/{label}",
            "prompt": question(country),
            "kind": "fact",
            "split": "train",
            "label": label,
            "completion": f"{city}." if label else f"{other} it is",
        }
        for (country, city), other in zip(CITIES.items(), [*[*CITIES.values()][1:], "Paris"], strict=True)
        for label in (True, False)
    ]


def train(folder: Path, stage: str, rows: Any = None, inputs: dict[str, Artifact] | None = None,
          **changes: Any) -> StageRun:  # fmt: skip
    given = {"model": model_artifact(folder / "m"), "preferences": preferences_artifact(folder / "p"), **(inputs or {})}
    if rows is not None:
        given["preferences"] = jsonl_artifact(ArtifactType.PREFERENCES, folder / "q" / "preferences.jsonl", rows)
    step_size = {"replies_a_step": 60} if stage == "kto" else {"pairs_a_step": 25}
    settings = {"num_steps": 12, "precision": "float32", "optimizer": {"learning_rate": 0.003}, **step_size, **changes}
    run_stage, config = STAGES[stage]
    run = stage_run(folder / "out")
    run_stage(config(model="", preferences="", **settings), given, run)
    return run


def curve(run: StageRun, metric: str) -> list[float]:
    return [row[metric] for row in read_journal(run.journal.path) if metric in row]


@pytest.mark.parametrize("stage", STAGES)
def test_pairs_cost_one_model_and_no_tokens(tmp_path: Path, stage: str) -> None:
    run = train(tmp_path, stage, num_steps=1)
    size = sum(parameter.numel() for parameter in load_causal_lm(run.directory).parameters())
    costs = [run.metrics[f"cost/{name}"] for name in ("models", "parameters", "generated_tokens")]
    assert costs == [1, size, 0]


AT_START = {"sigmoid": math.log(2), "cdpo": math.log(2), "sigmoid_norm": math.log(2), "robust": math.log(2),
            "hinge": 1.0, "ipo": 25.0, "ipo_sum": 25.0}  # fmt: skip


@pytest.mark.parametrize("loss", PREFERENCE_LOSSES)
def test_the_whole_family_begins_at_the_reference_and_learns(tmp_path: Path, loss: str) -> None:
    smoothing = 0.1 if loss in ("cdpo", "robust") else 0.0
    run = train(tmp_path, "dpo", loss=loss, label_smoothing=smoothing)
    losses = curve(run, "train/loss")
    if loss in AT_START:
        assert losses[0] == pytest.approx(AT_START[loss], rel=1e-4)
        assert curve(run, "rewards/margins")[0] == pytest.approx(0, abs=1e-4)
    assert losses[-1] < losses[0]
    assert (tmp_path / "reference.cache").exists() == (loss not in WITHOUT_REFERENCE)


def test_orpo_is_the_loss_of_its_name(tmp_path: Path) -> None:
    own = train(tmp_path / "a", "orpo", beta=0.2)
    named = train(tmp_path / "b", "dpo", loss="orpo", beta=0.2)
    assert curve(own, "train/loss") == curve(named, "train/loss")
    assert curve(own, "train/loss")[-1] < curve(own, "train/loss")[0] - 0.1
    assert not any("sft_coef" in note for note in own.notes if "no reference" in note)


@pytest.mark.parametrize("source", ["pairs", "labelled"])
def test_kto_begins_at_a_half_and_tells_desirable_from_undesirable(tmp_path: Path, source: str) -> None:
    rows = labelled_rows() if source == "labelled" else None
    run = train(tmp_path, "kto", rows, num_steps=20, micro_batch_replies=7)
    assert curve(run, "train/loss")[0] == pytest.approx(0.5, abs=1e-5)
    assert curve(run, "kl")[0] == pytest.approx(0, abs=1e-4)
    assert curve(run, "train/loss")[-1] < 0.49
    assert run.metrics["rewards/chosen"] > run.metrics["rewards/rejected"] + 0.05


def test_ktos_baseline_is_of_the_whole_step_and_micro_batches_change_nothing(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", "kto", num_steps=4)
    parts = train(tmp_path / "parts", "kto", num_steps=4, micro_batch_replies=5)
    assert curve(parts, "train/loss") == pytest.approx(curve(whole, "train/loss"), abs=1e-5)
    assert curve(parts, "kl") == pytest.approx(curve(whole, "kl"), abs=1e-4)


def test_mismatched_replies_have_another_prompt_and_the_same_reply() -> None:
    rows = render_labelled(tokenizer(), preference_rows(), CONTEXT).train
    found = kto.mismatches(rows, len(rows), CONTEXT)
    assert sorted(found) == list(range(len(rows)))
    for number, other in found.items():
        own = rows[number].completion
        assert other.ids[other.num_prompt :] == own.ids[own.num_prompt :]
        assert other.ids[: other.num_prompt] != own.ids[: own.num_prompt]
        assert len(other.ids) <= CONTEXT
    one_prompt = [Labelled(row.completion, row.desirable, {}) for row in rows[:1]] * 3
    assert kto.mismatches(one_prompt, 3, CONTEXT) == {}
    assert kto_baseline(torch.zeros(0), torch.zeros(0)) == 0


def test_a_reply_in_many_pairs_is_one_labelled_reply() -> None:
    rows = render_labelled(tokenizer(), preference_rows(), CONTEXT)
    desirable = [row for row in rows.train if row.desirable]
    assert len(desirable) == 5  # one right reply to each prompt, though it is in five pairs
    assert len(rows.train) == 5 + 25


def test_labelled_replies_that_cannot_be_learnt_from(tmp_path: Path) -> None:
    good = labelled_rows()
    empty = {**good[0], "completion": "  "}
    long = {**good[1], "completion": "Paris " * 100}
    pair = preference_rows()[0]
    run = train(
        tmp_path / "some",
        "kto",
        [*good, empty, long, {**good[2], "label": "no"}, {**pair, "rejected": pair["chosen"] + " "}],
        num_steps=1,
    )
    assert "1 replies are longer than the context of 48 tokens and were dropped" in run.notes
    assert (
        "4 replies are empty, of pairs with two equal sides, or labelled neither true nor false and were dropped"
        in (run.notes)
    )
    with pytest.raises(DataError, match="desirable and undesirable replies are both needed"):
        train(tmp_path / "none", "kto", [row for row in good if row["label"]])


@pytest.mark.parametrize("stage", ["dpo", "orpo"])
def test_single_replies_are_left_out_of_pairs_and_counted(tmp_path: Path, stage: str) -> None:
    run = train(tmp_path / "some", stage, [*preference_rows(), *labelled_rows()], num_steps=1)
    assert any("12 rows are single labelled replies" in note for note in run.notes)
    equal = {**preference_rows()[0], "rejected": "Paris."}
    with pytest.raises(DataError, match="1 state no preference, 12 are single labelled replies"):
        train(tmp_path / "none", stage, [equal, *labelled_rows()])


def test_an_unbalanced_kto_says_so(tmp_path: Path) -> None:
    run = train(tmp_path, "kto", labelled_rows(), num_steps=1, desirable_weight=4.0)
    assert any("6 desirable replies weigh 4 times the 6 undesirable ones" in note for note in run.notes)
    run = train(tmp_path / "balanced", "kto", labelled_rows(), num_steps=1)
    assert not any("desirable replies weigh" in note for note in run.notes)


def test_one_prompt_has_no_mismatch_and_says_so(tmp_path: Path) -> None:
    run = train(tmp_path, "kto", labelled_rows()[:2], num_steps=2)
    assert any("baseline of KTO cannot be estimated" in note for note in run.notes)
    assert curve(run, "kl") == [0, 0]


def test_the_reference_is_computed_once_for_all_stages_and_keyed_by_its_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    honest = sequence_logprobs

    def counting(model: Any, completions: Any, *rest: Any) -> torch.Tensor:
        counted.append(len(completions))
        return honest(model, completions, *rest)

    monkeypatch.setattr(preference, "sequence_logprobs", counting)
    first = train(tmp_path, "dpo", num_steps=2)
    again = train(tmp_path, "dpo", num_steps=2, beta=0.2)
    assert len(counted) == 1
    assert curve(first, "rewards/margins")[0] == pytest.approx(curve(again, "rewards/margins")[0] / 2, abs=1e-5)
    other = Artifact("m", ArtifactType.MODEL, tmp_path / "m", "another checksum")
    train(tmp_path, "dpo", inputs={"model": other}, num_steps=2)
    assert len(counted) == 2
    assert len(list((tmp_path / "reference.cache").iterdir())) == 2


@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_a_named_reference_is_used_and_one_of_another_vocabulary_is_refused(tmp_path: Path, stage: str) -> None:
    far = {"reference": model_artifact(tmp_path / "far", seed=5)}
    run = train(tmp_path / "a", stage, inputs=far, reference="")
    assert abs(curve(run, "rewards/chosen")[0]) > 0.1
    other = train_bpe(["Other words give other merges, other words."] * 3, 290)
    with pytest.raises(TrainingError, match="the reference other has another tokenizer than m"):
        train(tmp_path / "b", stage, inputs={"reference": model_artifact(tmp_path / "other", own=other)}, reference="")


@pytest.mark.parametrize("stage", STAGES)
def test_samples_show_the_same_prompts_before_and_after(tmp_path: Path, stage: str) -> None:
    run = train(tmp_path, stage, num_steps=4, loop={"evaluate_every": 2}, num_samples=1)
    rows = list(read_jsonl(run.directory / "samples.jsonl"))
    assert [(row["step"], row["prompt"]) for row in rows] == [(step, question("Egypt")) for step in (0, 2, 4)]
    without = train(tmp_path / "without", stage, num_steps=4, loop={"evaluate_every": 2}, num_samples=0)
    assert tree_bytes(without.directory)["model.safetensors"] == tree_bytes(run.directory)["model.safetensors"]
    assert load_causal_lm(run.directory).config.vocab_size == 300


def test_collapse_is_said_in_words() -> None:
    start = {"rewards/chosen": 0.0, "rewards/rejected": 0.0, "logps/chosen": -20.0}
    assert preference_notes(start, {**start, "rewards/chosen": 0.1, "logps/chosen": -19.0}) == []
    (faster,) = preference_notes(start, {**start, "rewards/chosen": -2.0, "rewards/rejected": -1.0})
    assert "chosen replies lost more probability than rejected ones" in faster
    (far,) = preference_notes(start, {"rewards/chosen": -2.0, "rewards/rejected": -9.0, "logps/chosen": -40.0})
    assert "the chosen replies' log-probs fell from -20 to -40 nats" in far
