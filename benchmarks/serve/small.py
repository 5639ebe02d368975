"""The quickstart's shape of model, with random weights and words for tokens."""

from __future__ import annotations

from llama import SHAPE, Work

SERVE = "import sys; from tutelage.cli import main; sys.argv[0] = 'tutelage'; main()"
SMALL = {"vocab_size": 4096, "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 5,
         "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 256}  # fmt: skip


def small_work() -> Work:
    return Work("a model of the quickstart's shape", {**SHAPE, **SMALL}, prompt=32, new=96)
