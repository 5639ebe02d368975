"""Policy-gradient losses over the tokens of rollouts: PPO, GRPO and its relatives, and the clipped value loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tutelage.objectives.kl import k3
from tutelage.objectives.masked import mask_count, masked, masked_mean, masked_sum, masked_var
from tutelage.objectives.types import LossOutput, Metrics, divide

Aggregation = Literal["token_mean", "sequence_sum", "sequence_mean", "row_mean", "constant"]


def aggregate(
    losses_BT: Tensor, mask_BT: Tensor, how: Aggregation = "token_mean", *, length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Sum and count of per-token losses; what one unit of the count is, is the difference between the algorithms.

    - `token_mean`: Σ losses / tokens (PPO, DAPO; the default, as long completions keep their weight)
    - `sequence_sum`: Σ losses / completions that have tokens
    - `sequence_mean`: Σ (mean of each completion) / completions that have tokens
    - `row_mean`: as `sequence_mean`, but empty rows are counted (GRPO as published)
    - `constant`: Σ losses / (rows · `length`), the longest possible completion (Dr. GRPO 2503.20783)
    """
    tokens_B = mask_BT.bool().sum(-1)
    sums_B = masked(losses_BT, mask_BT).sum(-1)
    rows = losses_BT.detach().new_tensor(len(sums_B))
    if how == "token_mean":
        return sums_B.sum(), mask_count(losses_BT, mask_BT)
    if how == "constant":
        assert length is not None, "aggregation 'constant' needs the length"
        return sums_B.sum(), rows * length
    if how == "row_mean":
        return divide(sums_B, tokens_B).sum(), rows
    completions = mask_count(losses_BT, tokens_B > 0)
    return (sums_B if how == "sequence_sum" else divide(sums_B, tokens_B)).sum(), completions


@dataclass(frozen=True)
class Clip:
    """How far the ratio π/π_old may carry a token's loss."""

    low: float = 0.2
    high: float = 0.2  # larger than `low`: clip-higher (DAPO 2503.14476)
    max_ratio: float = math.inf  # two-sided clip: the unclipped ratio is held to this (INTELLECT-2 2505.07291)
    dual: float = math.inf  # dual clip: with A < 0 a loss is at most −A times this (1912.09729)
    max_log_ratio: float = math.inf  # log π − log π_old is held to ±this
    per_sequence: bool = False  # one ratio per completion, of mean log-probs (GSPO 2507.18071)


class PolicyTerms(NamedTuple):
    """Per-token losses (B, T), ratio π/π_old and where it was clipped: (B, T), or (B, 1) with one ratio a sequence."""

    losses: Tensor
    ratio: Tensor
    clipped_low: Tensor
    clipped_high: Tensor
    dual_clipped: Tensor


def policy_terms(
    logprobs_BT: Tensor, old_logprobs_BT: Tensor, advantages_BT: Tensor, mask_BT: Tensor, clip: Clip
) -> PolicyTerms:
    """max(−A·ratio, −A·clip(ratio, 1 − low, 1 + high)) of each token (1707.06347, eq. 7); 0 outside the mask.

    The advantages are (B, T), or (B, 1) for one a completion (with `per_sequence` they must be).
    """
    log_ratio = masked(logprobs_BT - old_logprobs_BT, mask_BT).clamp(-clip.max_log_ratio, clip.max_log_ratio)
    if clip.per_sequence:
        log_ratio = divide(log_ratio.sum(-1, keepdim=True), mask_BT.bool().sum(-1, keepdim=True))
    advantages = advantages_BT if advantages_BT.shape[1] == 1 else masked(advantages_BT, mask_BT)
    ratio = log_ratio.exp()
    held = ratio.clamp(max=clip.max_ratio)
    losses = torch.maximum(-advantages * held, -advantages * ratio.clamp(1 - clip.low, 1 + clip.high))
    negative = advantages < 0
    ceiling = -advantages * clip.dual if math.isfinite(clip.dual) else torch.full_like(losses, math.inf)
    dual_clipped = negative & (losses > ceiling)
    losses = torch.where(negative, torch.minimum(losses, ceiling), losses)
    return PolicyTerms(
        masked(losses.expand_as(logprobs_BT), mask_BT),
        ratio,
        (held < 1 - clip.low) & negative,
        (held > 1 + clip.high) & (advantages > 0),
        dual_clipped,
    )


def policy_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip: Clip | None = None,
    how: Aggregation = "token_mean",
    length: int | None = None,
    ref_logprobs_BT: Tensor | None = None,
    kl_coef: float = 0.0,
) -> LossOutput:
    """Clipped policy loss, plus kl_coef·k3 per token if a reference is given (GRPO), aggregated as `how` says.

    Metrics: `policy/clipfrac` (and `_low`, `_high`, `_dual`), `policy/approxkl` (½ mean d²), `policy/policykl`
    (mean −d), `val/ratio`, `loss/policy`; `policy/ref_kl` with a reference.
    """
    terms = policy_terms(logprobs_BT, old_logprobs_BT, advantages_BT, mask_BT, clip or Clip())
    losses_BT = terms.losses
    metrics = dict(_policy_metrics(terms, logprobs_BT, old_logprobs_BT, mask_BT))
    if ref_logprobs_BT is not None:
        # Log-probs outside the mask may be anything: both become 0 there before exp can make NaN of them.
        kl_BT = k3(masked(logprobs_BT, mask_BT), masked(ref_logprobs_BT, mask_BT))
        losses_BT = losses_BT + kl_coef * kl_BT
        metrics["policy/ref_kl"] = (masked_sum(kl_BT.detach(), mask_BT), mask_count(kl_BT, mask_BT))
    loss_sum, count = aggregate(losses_BT, mask_BT, how, length=length)
    return LossOutput(loss_sum, count, metrics | {"loss/policy": (loss_sum.detach(), count)})


def value_losses(values_BT: Tensor, old_values_BT: Tensor, returns_BT: Tensor, clip_range: float) -> Tensor:
    """½·max((V − R)², (clip(V, V_old ± clip_range) − R)²) of each token, (B, T)."""
    return 0.5 * torch.maximum(*_squared_errors(values_BT, old_values_BT, returns_BT, clip_range))


def value_loss(
    values_BT: Tensor,
    old_values_BT: Tensor,
    returns_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip_range: float = 0.2,
    how: Aggregation = "token_mean",
    length: int | None = None,
) -> LossOutput:
    """Clipped value loss with its factor ½ and without a coefficient. Metrics: `val/clipfrac`, `loss/value`."""
    values_BT, old_values_BT = masked(values_BT, mask_BT), masked(old_values_BT, mask_BT)
    returns_BT = masked(returns_BT, mask_BT)
    losses_BT = value_losses(values_BT, old_values_BT, returns_BT, clip_range)
    loss_sum, count = aggregate(losses_BT, mask_BT, how, length=length)
    plain_BT, clipped_BT = _squared_errors(values_BT, old_values_BT, returns_BT, clip_range)
    clipped = masked_sum((clipped_BT > plain_BT).to(losses_BT.dtype), mask_BT)
    tokens = mask_count(losses_BT, mask_BT)
    return LossOutput(loss_sum, count, {"val/clipfrac": (clipped, tokens), "loss/value": (loss_sum.detach(), count)})


def ppo_loss(
    policy: LossOutput, value: LossOutput, logprobs_BT: Tensor, *, value_coef: float = 0.1, skip: bool = False
) -> LossOutput:
    """Policy loss + value_coef · value loss of the same tokens; `skip` makes the loss 0 and leaves the metrics."""
    loss_sum = policy.loss_sum + value_coef * value.loss_sum
    if skip:
        # A ratio that overflowed has no usable gradient, not even times 0: the graph is cut, and stays trainable.
        loss_sum = masked_sum(logprobs_BT, torch.zeros_like(logprobs_BT))
    return LossOutput(loss_sum, policy.count, {**policy.metrics, **value.metrics})


@torch.no_grad()
def mean_ratio(logprobs_BT: Tensor, old_logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean of π/π_old over masked tokens (scalar): far above 1 a batch is too old to learn from."""
    return masked_mean(masked(logprobs_BT - old_logprobs_BT, mask_BT).exp(), mask_BT)


@torch.no_grad()
def explained_variance(values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """1 − Var(R − V) / Var(R) over masked tokens (scalar): 1 is a perfect critic, 0 one that knows the mean only."""
    returns_BT = masked(returns_BT, mask_BT)
    errors_BT = returns_BT - masked(values_BT, mask_BT)
    return 1 - divide(masked_var(errors_BT, mask_BT), masked_var(returns_BT, mask_BT))


def _squared_errors(
    values_BT: Tensor, old_values_BT: Tensor, returns_BT: Tensor, clip_range: float
) -> tuple[Tensor, Tensor]:
    clipped_BT = torch.clamp(values_BT, old_values_BT - clip_range, old_values_BT + clip_range)
    return (values_BT - returns_BT).square(), (clipped_BT - returns_BT).square()


@torch.no_grad()
def _policy_metrics(terms: PolicyTerms, logprobs_BT: Tensor, old_logprobs_BT: Tensor, mask_BT: Tensor) -> Metrics:
    tokens = mask_count(logprobs_BT, mask_BT)
    log_ratio_BT = masked(logprobs_BT - old_logprobs_BT, mask_BT)
    # With one ratio a sequence the fractions are over sequences, as many as there are rows.
    units = mask_BT.bool() if terms.ratio.shape == mask_BT.shape else torch.ones_like(terms.ratio, dtype=torch.bool)
    ratio_count = mask_count(logprobs_BT, units)

    def fraction(flags: Tensor) -> tuple[Tensor, Tensor]:
        return (flags & units).sum().to(logprobs_BT.dtype), ratio_count

    return {
        "policy/clipfrac": fraction(terms.clipped_low | terms.clipped_high),
        "policy/clipfrac_low": fraction(terms.clipped_low),
        "policy/clipfrac_high": fraction(terms.clipped_high),
        "policy/clipfrac_dual": fraction(terms.dual_clipped),
        "policy/approxkl": (0.5 * log_ratio_BT.square().sum(), tokens),
        "policy/policykl": (-log_ratio_BT.sum(), tokens),
        "val/ratio": (masked_sum(terms.ratio, units), ratio_count),
    }
