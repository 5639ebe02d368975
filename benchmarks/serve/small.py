"""What the rows share: the quickstart's shape of model, prompts, the command that serves."""

from __future__ import annotations

import torch
from llama import NUM_SPECIAL, SHAPE, Work

SERVE = "import sys; from tutelage.cli import main; sys.argv[0] = 'tutelage'; main()"
SMALL = {"vocab_size": 4096, "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 5,
         "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 256}  # fmt: skip


def small_work() -> Work:
    return Work("a model of the quickstart's shape", {**SHAPE, **SMALL}, prompt=32, new=96)


def prompts_of(work: Work, count: int, first: int) -> list[list[int]]:
    """No two alike, so that nobody gains by a prompt seen before."""
    generator = torch.Generator().manual_seed(first)
    shape = count, work.prompt
    ids: list[list[int]] = torch.randint(NUM_SPECIAL, work.shape["vocab_size"], shape, generator=generator).tolist()
    return ids
