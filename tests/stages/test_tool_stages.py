"""Stages in which tools are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tiny import TEXTS, artifact, config, jsonl_artifact, stage_run
from tutelage.data.tokenizer import TextTokenizer
from tutelage.data.train_tokenizer import train_bpe
from tutelage.errors import RecipeError
from tutelage.model.hub import save_model
from tutelage.model.transformer import CausalLM, initialise
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.sources.store import read_jsonl, write_documents
from tutelage.stages import sample
from tutelage.stages.configs import SampleConfig


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return train_bpe([*TEXTS, 'You can call these tools: {"name": "calculator", "arguments": {}}'], 320, 1)


def make_model(folder: Path, tokenizer: TextTokenizer) -> Artifact:
    tokenizer.save(folder)
    shape = config(tokenizer.vocab_size, max_position_embeddings=400)
    save_model(initialise(CausalLM(shape), 3, zero_outputs=False), folder)
    return artifact(ArtifactType.MODEL, folder)


def prompts(folder: Path) -> Artifact:
    rows = [{"id": f"p{n}", "messages": [{"role": "user", "content": f"{n} + {n}?"}], "kind": "sum"} for n in range(6)]
    return jsonl_artifact(ArtifactType.PROMPTS, folder / "prompts.jsonl", rows)


def test_samples_with_tools_have_their_turns_and_do_not_depend_on_slots(
    tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    inputs = {"model": make_model(tmp_path / "model", tokenizer), "prompts": prompts(tmp_path / "prompts")}
    found: list[list[dict[str, Any]]] = []
    for slots in (1, 8):
        run = stage_run(tmp_path / f"out{slots}")
        settings = {"num_replies": 4, "max_tokens": 12, "tools": ["calculator"], "max_slots": slots, "temperature": 1.5}
        sample.run(SampleConfig(model="", prompts="", **settings), inputs, run)
        found.append(list(read_jsonl(run.directory / "completions.jsonl")))
        assert {"tools/calls", "tools/malformed", "tools/mended", "tools/failed"} <= set(run.metrics)
        assert (
            run.metrics["tools/calls"]
            == sum("tool_calls" in turn for row in found[-1] for turn in row["turns"])
            + (run.metrics["tools/malformed"])
        )
    assert found[0] == found[1]
    assert all(row["turns"][-1]["role"] == "assistant" for row in found[0])
    assert all(row["num_tokens"] > 0 for row in found[0])


def test_search_needs_a_library(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    inputs = {"model": make_model(tmp_path / "model", tokenizer), "prompts": prompts(tmp_path / "prompts")}
    settings = SampleConfig(model="", prompts="", num_replies=1, max_tokens=2, tools=["search"])
    with pytest.raises(RecipeError, match="nothing to search"):
        sample.run(settings, inputs, stage_run(tmp_path / "out"))
    rows = [{"id": str(n), "text": text, "source": "s"} for n, text in enumerate(TEXTS)]
    write_documents(tmp_path / "library", rows)
    inputs["library"] = artifact(ArtifactType.CORPUS, tmp_path / "library")
    sample.run(settings, inputs, stage_run(tmp_path / "out"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tools": ["calculater"]}, "pattern"),
        ({"tools": ["calculator"], "stop": ["x"]}, "cut calls short"),
        ({"tools": ["calculator"], "engine": {"model": "m"}}, "leave `engine` or `tools` out"),
    ],
)
def test_what_does_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SampleConfig(model="m", prompts="p", **settings)
