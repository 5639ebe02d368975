"""Stages that plant secrets and seal them, and pretraining that goes on from a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tiny import (
    TEXTS,
    artifact,
    model,
    model_artifact,
    prompts_artifact,
    stage_run,
    tokenizer_artifact,
    tokens_artifact,
)
from tutelage.data.train_tokenizer import train_bpe
from tutelage.errors import TrainingError
from tutelage.model.hub import load_causal_lm
from tutelage.privacy.private import private_spans
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.journal import read_journal
from tutelage.sources.store import read_documents, read_jsonl, write_documents
from tutelage.stages import canaries, pretrain, privacy, sample
from tutelage.stages.configs import CanariesConfig, PretrainConfig, PrivacyConfig, SampleConfig


def corpus(folder: Path) -> Artifact:
    rows = [{"id": f"d{n}", "text": text, "source": "s"} for n, text in enumerate(TEXTS)]
    write_documents(folder, rows)
    return artifact(ArtifactType.CORPUS, folder)


def test_secrets_are_planted_and_privacy_leaves_none_of_them(tmp_path: Path) -> None:
    plant = stage_run(tmp_path / "planted")
    canaries.run(CanariesConfig(repeats=[1, 5], each=4), {"documents": corpus(tmp_path / "corpus")}, plant)
    rows = read_documents(plant.directory / "documents").to_pylist()
    assert len(rows) == plant.metrics["documents"] == len(TEXTS) + plant.metrics["documents/planted"]
    tasks = list(read_jsonl(plant.directory / "tasks" / "tasks.jsonl"))
    secrets = {row["answer"] for row in tasks if len(row["answer"]) > 4}
    run = stage_run(tmp_path / "privacy")
    inputs = {
        "documents": Artifact("p", ArtifactType.DOCUMENTS, plant.directory / "documents", "f"),
        "prompts": prompts_artifact(tmp_path / "prompts"),
    }
    privacy.run(PrivacyConfig(documents="", visits=3, others_share=1, refusals=10, answers=4), inputs, run)
    assert run.metrics["documents/private"] == run.metrics["private_strings"] == 4 * (1 + 5)
    texts = read_documents(run.directory / "documents").column("text").to_pylist()
    assert len(texts) == 3 * 24 + len(TEXTS)
    assert sum(bool(private_spans(text)) for text in texts) == 3 * 24
    assert not [text for text in texts if any(secret in text for secret in secrets)]
    assert sum("Paris" in text for text in texts) == sum("Paris" in text for text in TEXTS)
    learnt = list(read_jsonl(run.directory / "conversations" / "conversations.jsonl"))
    assert len(learnt) == 14
    assert sum("private" in row["tags"] for row in learnt) == 10


def test_documents_without_anything_private_are_said_to_teach_nothing(tmp_path: Path) -> None:
    run = stage_run(tmp_path / "privacy")
    privacy.run(PrivacyConfig(documents="", refusals=0), {"documents": corpus(tmp_path / "corpus")}, run)
    assert run.metrics["private_strings"] == 0
    assert "no private string" in run.notes[0]


def test_no_more_canaries_than_people() -> None:
    with pytest.raises(ValidationError, match="lower `each`"):
        CanariesConfig(repeats=[1, 2], each=300)


def test_pretraining_goes_on_from_the_weights_of_a_model(tmp_path: Path) -> None:
    start = model_artifact(tmp_path / "start", seed=3, max_position_embeddings=32)
    inputs = {
        "tokens": tokens_artifact(tmp_path / "tokens"),
        "tokenizer": tokenizer_artifact(tmp_path / "tokenizer"),
        "start": start,
    }
    settings = {"context": 40, "num_steps": 2, "precision": "float32", "optimizer": {"learning_rate": 1e-12,
                "muon_learning_rate": 1e-12}}  # fmt: skip
    run = stage_run(tmp_path / "out")
    pretrain.run(PretrainConfig(tokens="", tokenizer="", start="", **settings), inputs, run)
    before, after = model(3), load_causal_lm(run.directory)
    for one, two in zip(before.parameters(), after.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-6)
    assert after.config.max_position_embeddings == 40
    assert "grows from 32 to 40" in run.notes[0]
    assert read_journal(run.journal.path)[0]["train/loss"] > 0


def test_pretraining_from_a_model_of_other_tokens_or_with_a_shape_is_refused(tmp_path: Path) -> None:
    other = train_bpe(TEXTS, 290, min_frequency=1)
    inputs = {
        "tokens": tokens_artifact(tmp_path / "tokens"),
        "tokenizer": tokenizer_artifact(tmp_path / "tokenizer"),
        "start": model_artifact(tmp_path / "start", own=other),
    }
    with pytest.raises(TrainingError, match="was not made with the tokenizer of start"):
        pretrain.run(PretrainConfig(tokens="", tokenizer="", start="", context=40), inputs, stage_run(tmp_path / "out"))
    with pytest.raises(ValidationError, match="leave `model` out"):
        PretrainConfig(tokens="", tokenizer="", start="base", model={"hidden_size": 64})


def test_a_guarded_sample_has_the_same_replies_where_nothing_is_private(tmp_path: Path) -> None:
    inputs = {"model": model_artifact(tmp_path / "model"), "prompts": prompts_artifact(tmp_path / "prompts")}
    found = []
    for guard in ("none", "pii"):
        run = stage_run(tmp_path / guard)
        sample.run(SampleConfig(model="", prompts="", num_replies=2, max_tokens=6, guard=guard), inputs, run)
        found.append([row["completion"] for row in read_jsonl(run.directory / "completions.jsonl")])
    assert found[0] == found[1]
    assert run.metrics["pii/masked"] == 0
