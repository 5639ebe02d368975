"""How likely a model finds a text: the log-prob of each of its tokens after those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tutelage.generation.request import Tops
from tutelage.generation.slots import tops_of
from tutelage.model.transformer import CausalLM

CHUNK_LOGITS = 1 << 22  # logits held at once


@dataclass(frozen=True)
class Score:
    """Of every token but the first: its log-prob at temperature 1, and the likeliest tokens in its place."""

    logprobs: list[float]
    tops: list[Tops]


@torch.no_grad()
def score(model: CausalLM, ids: Sequence[int], num_tops: int = 0) -> Score:
    """Log-probs of `ids[1:]`, from one forward; nothing is put before the first token."""
    ids_BT = torch.tensor([list(ids)])
    positions_BT = torch.arange(len(ids))[None]
    hidden_TD = model.model(ids_BT, positions_BT, None, model.compute_dtype, None)[0, :-1]
    logprobs, tops = [], []
    rows = max(1, CHUNK_LOGITS // model.config.vocab_size)
    for start in range(0, len(ids) - 1, rows):
        logprobs_NV = model.lm_head(hidden_TD[start : start + rows]).float().log_softmax(-1)
        targets_N = ids_BT[0, 1 + start : 1 + start + len(logprobs_NV)]
        logprobs += logprobs_NV.gather(1, targets_N[:, None])[:, 0].tolist()
        if num_tops:
            tops += [tops_of(logprobs_V, num_tops) for logprobs_V in logprobs_NV]
    return Score(logprobs, tops)
