"""A small model learns planted secrets by heart, and privacy tuning brings them back to chance."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tiny import artifact, stage_run
from tutelage.data.shards import ShardWriter
from tutelage.data.tokenizer import TextTokenizer
from tutelage.data.train_tokenizer import train_bpe
from tutelage.evaluation.harness import Subject
from tutelage.evaluation.outcome import Outcome
from tutelage.evaluation.tasks import TASKS
from tutelage.generation.sampling import Sampling
from tutelage.model.hub import load_causal_lm
from tutelage.privacy.canaries import canaries, items
from tutelage.privacy.private import private_spans, refilled
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.sources.store import read_documents, write_documents
from tutelage.stages import pretrain, privacy
from tutelage.stages.configs import PretrainConfig, PrivacyConfig

PLANTED = canaries([8], 16, seed=0)
SENTENCES = [canary.sentence for canary in PLANTED]


def words() -> TextTokenizer:
    """It knows the names and none of the secrets."""
    rng = random.Random(1)
    return train_bpe([refilled(text, private_spans(text), rng) for text in SENTENCES * 4], 420, min_frequency=2)


def tokens(folder: Path, own: TextTokenizer, texts: list[str]) -> Artifact:
    with ShardWriter(folder, own) as out:
        for number, text in enumerate(texts):
            split = "validation" if number == 0 else "train"
            out.add(split, own.encode(text), document=str(number), source="s", num_bytes=len(text.encode()))
    return artifact(ArtifactType.TOKENS, folder)


def measured(folder: Path, own: TextTokenizer) -> Outcome:
    rows = [row for row in items(PLANTED, 0) if row["task"] == "canary"]
    return TASKS["canary"](Subject("m", load_causal_lm(folder).eval(), own), rows, Sampling(8, 0.0))


@pytest.mark.slow
def test_what_was_learnt_by_heart_goes_back_to_chance(tmp_path: Path) -> None:
    own = words()
    own.save(tmp_path / "tokenizer")
    inputs = {"tokenizer": artifact(ArtifactType.TOKENIZER, tmp_path / "tokenizer")}
    common = {"context": 48, "global_batch_tokens": 768, "micro_batch_tokens": 768, "precision": "float32"}
    learnt = stage_run(tmp_path / "learnt")
    shape = {"hidden_size": 64, "num_hidden_layers": 2}
    pretrain.run(
        PretrainConfig(tokens="", tokenizer="", model=shape, num_steps=160, **common),
        {**inputs, "tokens": tokens(tmp_path / "planted", own, SENTENCES * 2)},
        learnt,
    )
    write_documents(tmp_path / "read", [{"id": f"d{n}", "text": t, "source": "s"} for n, t in enumerate(SENTENCES)])
    fresh = stage_run(tmp_path / "fresh")
    documents = {"documents": artifact(ArtifactType.DOCUMENTS, tmp_path / "read")}
    privacy.run(PrivacyConfig(documents="", visits=40, refusals=0), documents, fresh)
    texts = read_documents(fresh.directory / "documents").column("text").to_pylist()
    forgot = stage_run(tmp_path / "forgot")
    start = Artifact("learnt", ArtifactType.MODEL, learnt.directory, "f")
    pretrain.run(
        PretrainConfig(tokens="", tokenizer="", start="", num_steps=160, **common),
        {**inputs, "tokens": tokens(tmp_path / "forgetting", own, texts), "start": start},
        forgot,
    )
    before, after = measured(learnt.directory, own), measured(forgot.directory, own)
    assert before.estimates["exposure_bits"].value > 7
    assert sum(before.hits) > 8
    assert abs(after.estimates["z_from_chance"].value) < 2.5
    assert sum(after.hits) == 0
