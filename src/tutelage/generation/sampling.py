"""How the next token is drawn: temperature, top-k, top-p, min-p; one stream of random numbers a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """`temperature` 0 takes the likeliest token; `top_k` 0, `top_p` 1 and `min_p` 0 leave the distribution whole."""

    max_tokens: int = 64
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    @property
    def filters(self) -> bool:
        """Whether any token is ruled out before drawing."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


def uniform_numbers(seeds: Sequence[int], count: int) -> Tensor:
    """[B, count] numbers in [0, 1), float64; row b depends on `seeds[b]` alone: a batch never changes a reply."""
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(count) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def draw(
    logits_BV: Tensor, uniform_B: Tensor, temperatures_B: Tensor, samplings: Sequence[Sampling]
) -> tuple[Tensor, Tensor]:
    """The next token of each row and its log-probability under softmax(logits / temperature), before any filter.

    Draws by inverting the cumulative distribution at `uniform_B`. A row of temperature 0 takes its arg max, with the
    log-probability at temperature 1.
    """
    greedy_B = temperatures_B == 0
    scaled_BV = logits_BV.float() / torch.where(greedy_B, 1.0, temperatures_B)[:, None]
    logprobs_BV = scaled_BV.log_softmax(-1)
    probabilities_BV = logprobs_BV.double().exp()
    if any(sampling.filters for sampling in samplings):
        probabilities_BV = _filtered(probabilities_BV, samplings)
    cumulative_BV = probabilities_BV.cumsum(-1)
    threshold_B1 = uniform_B[:, None] * cumulative_BV[:, -1:]
    drawn_B = (cumulative_BV <= threshold_B1).sum(-1).clamp_(max=logits_BV.shape[-1] - 1)
    tokens_B = torch.where(greedy_B, logits_BV.argmax(-1), drawn_B)
    return tokens_B, logprobs_BV.gather(1, tokens_B[:, None]).squeeze(1)


def _filtered(probabilities_BV: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """Zero what top-k, top-p (Holtzman et al., arXiv 1904.09751) and min-p (arXiv 2407.01082) rule out, row by row."""
    min_p_B1 = torch.tensor([s.min_p for s in samplings], dtype=torch.float64)[:, None]
    likely_BV = probabilities_BV >= min_p_B1 * probabilities_BV.amax(-1, keepdim=True)
    if all(s.top_k == 0 and s.top_p == 1 for s in samplings):
        return probabilities_BV * likely_BV  # without the sort, which costs more than the rest of a step
    V = probabilities_BV.shape[-1]
    sorted_BV, order_BV = probabilities_BV.sort(stable=True, dim=-1, descending=True)
    rank_V = torch.arange(V)
    top_k_B1 = torch.tensor([s.top_k or V for s in samplings])[:, None]
    # rounded sums reach 1 before the last token: top_p 1 must leave out none
    top_p_B1 = torch.tensor([s.top_p if s.top_p < 1 else 2.0 for s in samplings], dtype=torch.float64)[:, None]
    before_BV = sorted_BV.cumsum(-1) - sorted_BV
    keep_BV = (rank_V < top_k_B1) & (before_BV < top_p_B1)
    keep_BV[:, 0] = True
    return torch.zeros_like(probabilities_BV).scatter(1, order_BV, sorted_BV * keep_BV) * likely_BV
