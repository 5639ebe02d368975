"""Reward-model losses over scalar rewards of whole responses."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tutelage.objectives.masked import mask_count, masked, masked_sum
from tutelage.objectives.types import LossOutput, Metrics, divide


def bradley_terry(
    chosen_B: Tensor,
    rejected_B: Tensor,
    *,
    margin_B: Tensor | None = None,
    labels_B: Tensor | None = None,
    weights_B: Tensor | None = None,
    centring: float = 0.0,
) -> LossOutput:
    """−log σ(r_c − r_r − margin) + centring·(r_c + r_r)², summed over pairs; count = sum of weights (default 1 each).

    `labels_B` are soft labels p in [0, 1]: −p·log σ(Δ) − (1 − p)·log σ(−Δ). Bradley–Terry as in 2203.02155; centring
    as in 2312.09244. All arguments are (B,).
    """
    difference_B = chosen_B - rejected_B
    logits_B = difference_B if margin_B is None else difference_B - margin_B
    losses_B = -logsigmoid(logits_B)
    if labels_B is not None:
        losses_B = labels_B * losses_B - (1 - labels_B) * logsigmoid(-logits_B)
    return _pair_output(_centred(losses_B, chosen_B, rejected_B, centring), chosen_B, rejected_B, weights_B)


def hinge(
    chosen_B: Tensor,
    rejected_B: Tensor,
    *,
    margin: float | Tensor = 1.0,
    weights_B: Tensor | None = None,
    centring: float = 0.0,
) -> LossOutput:
    """max(0, margin − (r_c − r_r)) + centring·(r_c + r_r)², summed over pairs; count = sum of weights (default 1 each).

    `margin` is one number, or (B,).
    """
    losses_B = (margin - (chosen_B - rejected_B)).relu()
    return _pair_output(_centred(losses_B, chosen_B, rejected_B, centring), chosen_B, rejected_B, weights_B)


def listwise(rewards_BK: Tensor, ranks_BK: Tensor | None = None, mask_BK: Tensor | None = None) -> LossOutput:
    """Mean Bradley–Terry loss of all ordered pairs of a ranking, summed over prompts (2203.02155, eq. 1).

    `ranks_BK`: the smaller the better, equal ranks are ties and left out; without it responses stand best to worst.
    `mask_BK` marks responses that exist. The count is the number of prompts with at least one ordered pair.
    """
    if ranks_BK is None:
        ranks_BK = torch.arange(rewards_BK.shape[1], device=rewards_BK.device).expand_as(rewards_BK)
    mask_BK = torch.ones_like(ranks_BK, dtype=torch.bool) if mask_BK is None else mask_BK.bool()
    rewards_BK = masked(rewards_BK, mask_BK)
    ordered_BKK = ranks_BK.unsqueeze(2) < ranks_BK.unsqueeze(1)
    ordered_BKK = ordered_BKK & mask_BK.unsqueeze(2) & mask_BK.unsqueeze(1)
    difference_BKK = rewards_BK.unsqueeze(2) - rewards_BK.unsqueeze(1)
    pairs_B = ordered_BKK.sum((1, 2))
    losses_B = divide(masked(-logsigmoid(difference_BKK), ordered_BKK).sum((1, 2)), pairs_B)
    correct = (ordered_BKK & (difference_BKK > 0)).sum().to(rewards_BK.dtype)
    metrics: Metrics = {
        "accuracy": (correct, pairs_B.sum().to(rewards_BK.dtype)),
        "margin": (masked_sum(difference_BKK, ordered_BKK).detach(), pairs_B.sum().to(rewards_BK.dtype)),
        "rewards/mean": (rewards_BK.detach().sum(), mask_count(rewards_BK, mask_BK)),
    }
    return LossOutput(losses_B.sum(), mask_count(rewards_BK, pairs_B > 0), metrics)


@torch.no_grad()
def calibration_error(margins_N: Tensor, *, num_bins: int = 10) -> Tensor:
    """Expected calibration error of σ(r_c − r_r) as the probability that the annotator's choice is right (scalar).

    The confidence in the predicted winner, σ(|Δ|) in [½, 1], is cut into equal bins; the error is the mean over pairs
    of |confidence − accuracy| of their bin (1706.04599). A tie counts as half right. No pairs give 0.
    """
    confidence_N = margins_N.abs().sigmoid()
    correct_N = 0.5 * (1 + margins_N.sign())
    bins_N = ((confidence_N - 0.5) * 2 * num_bins).long().clamp(0, num_bins - 1)
    gaps = margins_N.new_zeros(num_bins).index_add(0, bins_N, confidence_N - correct_N)
    return divide(gaps.abs().sum(), margins_N.new_tensor(margins_N.numel()))


def _centred(losses_B: Tensor, chosen_B: Tensor, rejected_B: Tensor, centring: float) -> Tensor:
    return losses_B + centring * (chosen_B + rejected_B).square() if centring else losses_B


def _pair_output(losses_B: Tensor, chosen_B: Tensor, rejected_B: Tensor, weights_B: Tensor | None) -> LossOutput:
    chosen_B, rejected_B = chosen_B.detach(), rejected_B.detach()
    pairs = losses_B.detach().new_tensor(losses_B.numel())
    metrics: Metrics = {
        "accuracy": ((chosen_B > rejected_B).sum().to(losses_B.dtype), pairs),
        "margin": ((chosen_B - rejected_B).sum(), pairs),
        "rewards/mean": ((chosen_B + rejected_B).sum(), 2 * pairs),
    }
    if weights_B is None:
        return LossOutput(losses_B.sum(), pairs, metrics)
    return LossOutput((weights_B * losses_B).sum(), weights_B.sum().to(losses_B.dtype), metrics)
