"""How the next token is drawn: penalty, temperature, top-k, top-p, min-p; one stream of random numbers a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tutelage.model import kernels


@dataclass(frozen=True)
class Sampling:
    """`temperature` 0 takes the likeliest token; `top_k` 0, `top_p` 1 and `min_p` 0 leave the distribution whole.

    `repetition_penalty` (Keskar et al., arXiv 1909.05858) divides the positive logits of tokens that the prompt or the
    reply has, and multiplies their negative ones; 1 changes nothing.
    """

    max_tokens: int = 64
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    @property
    def filters(self) -> bool:
        """Whether any token is ruled out before drawing."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


def uniform_numbers(seeds: Sequence[int], count: int) -> Tensor:
    """[B, count] numbers in [0, 1), float64; row b depends on `seeds[b]` alone: a batch never changes a reply."""
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(count) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def draw(
    logits_BV: Tensor, uniform_B: Tensor, samplings: Sequence[Sampling], seen_BV: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The next token of each row and its log-probability under softmax(logits / temperature), before any filter.

    Draws by inverting the cumulative distribution at `uniform_B`. A row of temperature 0 takes its arg max, with the
    log-probability at temperature 1. The penalty for tokens seen (bool) changes what is drawn, not the log-probability:
    that stays the model's own, which a training forward finds again.
    """
    if seen_BV is None or all(sampling.repetition_penalty == 1 for sampling in samplings):
        return _draw(logits_BV, uniform_B, samplings)
    tokens_B, _ = _draw(_penalised(logits_BV, seen_BV, samplings), uniform_B, samplings)
    temperatures_B1 = torch.tensor([sampling.temperature or 1.0 for sampling in samplings])[:, None]
    logprobs_BV = (logits_BV.float() / temperatures_B1).log_softmax(-1)
    return tokens_B, logprobs_BV.gather(1, tokens_B[:, None]).squeeze(1)


def _penalised(logits_BV: Tensor, seen_BV: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    penalties_B1 = torch.tensor([sampling.repetition_penalty for sampling in samplings])[:, None]
    weaker_BV = torch.where(logits_BV > 0, logits_BV / penalties_B1, logits_BV * penalties_B1)
    return torch.where(seen_BV, weaker_BV, logits_BV)


def _draw(logits_BV: Tensor, uniform_B: Tensor, samplings: Sequence[Sampling]) -> tuple[Tensor, Tensor]:
    if kernels.takes(logits_BV):
        return draw_by_kernel(logits_BV.contiguous(), uniform_B.contiguous(), samplings)
    return draw_by_torch(logits_BV, uniform_B, samplings)


def draw_by_kernel(logits_BV: Tensor, uniform_B: Tensor, samplings: Sequence[Sampling]) -> tuple[Tensor, Tensor]:
    """`draw_by_torch` by the kernel: contiguous float32 logits."""
    B, V = logits_BV.shape
    tokens_B, logprobs_B = torch.empty(B, dtype=torch.long), torch.empty(B)
    settings = (
        torch.tensor([sampling.temperature for sampling in samplings], dtype=torch.float32),
        torch.tensor([sampling.top_k for sampling in samplings]),
        torch.tensor([sampling.top_p for sampling in samplings], dtype=torch.float64),
        torch.tensor([sampling.min_p for sampling in samplings], dtype=torch.float64),
    )
    tensors = (logits_BV, uniform_B, *settings, tokens_B, logprobs_B)
    kernels.library().draw_rows(*(tensor.data_ptr() for tensor in tensors), B, V, kernels.threads_for(B * V))
    return tokens_B, logprobs_B


def draw_by_torch(logits_BV: Tensor, uniform_B: Tensor, samplings: Sequence[Sampling]) -> tuple[Tensor, Tensor]:
    """See `draw`; the reference that the kernel is tested against."""
    temperatures_B = torch.tensor([sampling.temperature for sampling in samplings])
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
