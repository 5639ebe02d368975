from __future__ import annotations

from pathlib import Path

import pytest

from tutelage.data.train_tokenizer import train_bpe
from tutelage.model.config import ModelConfig
from tutelage.model.transformer import CausalLM, initialise
from tutelage.stages.models import publish_model
from tutelage.talk.speaker import Place, Speaker

TEXTS = ["The capital of France is Paris. What is the capital of Spain?"] * 4


def make_model(folder: Path, context: int, seed: int = 1) -> Path:
    """Random weights: it babbles bytes, control characters among them, and hardly ever stops."""
    tokenizer = train_bpe(TEXTS, 300)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size + 4,  # more rows than tokens, as in many published models
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        model_type="qwen3",
        max_position_embeddings=context,
    )
    folder.mkdir(parents=True)
    publish_model(initialise(CausalLM(config), seed, zero_outputs=False), tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny", context=192)


@pytest.fixture(scope="session")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "long", context=200_000)


@pytest.fixture(scope="session")
def speaker(model: Path) -> Speaker:
    return Speaker(Place(model))
