"""From scores to advantages: token rewards and GAE for PPO, group baselines for GRPO and RLOO. No gradients."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tutelage.objectives.masked import masked, masked_mean, masked_var
from tutelage.objectives.types import divide

Lone = Literal["zero", "score"]
"""What a group with one scored response gets: 0 (nothing to compare it with), or its score as it is."""


def token_rewards(scores_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, kl_coef: float) -> Tensor:
    """−kl_coef·KL on every generated token, plus the score on the last of them, (B, T); 0 elsewhere (2203.02155).

    `kl_BT` comes from `kl.KL_ESTIMATORS` or `kl.full_kl`. A row without generated tokens gets nothing.
    """
    mask_BT = mask_BT.bool()
    positions_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    last_B1 = torch.where(mask_BT, positions_T, -1).amax(-1, keepdim=True)
    at_last_BT = positions_T == last_B1
    return masked(-kl_coef * kl_BT, mask_BT) + masked(scores_B.unsqueeze(1).expand_as(kl_BT), at_last_BT)


class Advantages(NamedTuple):
    """Advantages (not whitened) and returns = advantages + values; (B, T), 0 outside the mask."""

    advantages: Tensor
    returns: Tensor


@torch.no_grad()
def gae(rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, *, gamma: float = 1.0, lam: float = 0.95) -> Advantages:
    """Generalised advantage estimation (1506.02438) over the masked tokens of each row.

    δ = r + γV' − V and A = δ + γλA', where V' and A' belong to the next *masked* token: tokens in between, such as a
    tool's reply, are no steps in time. After the last one both are 0.
    """
    mask_BT = mask_BT.bool()
    next_value_B = last_B = torch.zeros_like(values_BT[:, 0])
    columns = []
    for t in reversed(range(values_BT.shape[1])):
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        last_B = torch.where(mask_BT[:, t], delta_B + gamma * lam * last_B, last_B)
        next_value_B = torch.where(mask_BT[:, t], values_BT[:, t], next_value_B)
        columns.append(last_B)
    advantages_BT = masked(torch.stack(columns[::-1], dim=1), mask_BT)
    return Advantages(advantages_BT, masked(advantages_BT + values_BT, mask_BT))


def combine_rewards(rewards_NK: Tensor, weights_K: Tensor) -> Tensor:
    """Weighted sum of K reward functions, (N,); NaN is "no reward" and left out, NaN throughout stays NaN."""
    known_NK = ~rewards_NK.isnan()
    sums_N = masked(weights_K * rewards_NK, known_NK).sum(-1)
    return sums_N.masked_fill(~known_NK.any(-1), torch.nan)


def penalised_scores(
    scores_N: Tensor, kl_NT: Tensor, mask_NT: Tensor, kl_coef: float, clip_range: tuple[float, float] | None = None
) -> Tensor:
    """Scores, clipped first if a range is given, minus kl_coef times the KL summed over the completion, (N,)."""
    clipped_N = scores_N if clip_range is None else scores_N.clamp(*clip_range)
    return clipped_N - kl_coef * masked(kl_NT, mask_NT).sum(-1)


@torch.no_grad()
def grpo_advantages(
    scores_N: Tensor,
    groups_N: Tensor,
    *,
    scale: Literal["group", "batch", "none"] = "group",
    eps: float = 1e-4,
    lone: Lone = "zero",
) -> Tensor:
    """(score − mean of its group) / (std + eps), (N,) (2402.03300); `groups_N` holds each row's prompt, in any order.

    The std is unbiased, of the group or of all scores; "none" does not divide (2503.20783). A NaN score is left out of
    every statistic and gets 0.
    """
    group = _Groups.of(scores_N, groups_N)
    centred_N = group.scores - group.mean
    alone_N = group.sizes == 1
    if lone == "score":
        centred_N = torch.where(alone_N, group.scores, centred_N)
    if scale == "none":
        return masked(centred_N, group.known)
    if scale == "batch":
        std_N = masked_var(group.scores, group.known).sqrt()
    else:
        std_N = divide(group.total(masked(centred_N.square(), ~alone_N)), (group.sizes - 1).clamp(min=0)).sqrt()
        if lone == "score":
            std_N = std_N.masked_fill(alone_N, 1.0)
    return masked(centred_N / (std_N + eps), group.known)


@torch.no_grad()
def rloo_advantages(scores_N: Tensor, groups_N: Tensor, *, lone: Lone = "zero") -> Tensor:
    """Score − mean of the other scores of its group, (N,) (2402.14740); a NaN score is left out and gets 0."""
    group = _Groups.of(scores_N, groups_N)
    others_N = divide(group.total(group.scores) - group.scores, group.sizes - 1)
    alone_N = torch.zeros_like(scores_N) if lone == "zero" else group.scores
    return masked(torch.where(group.sizes > 1, group.scores - others_N, alone_N), group.known)


@torch.no_grad()
def normalise(advantages_N: Tensor, scores_N: Tensor, *, eps: float = 1e-4) -> Tensor:
    """Advantages of all rows that have a score brought to mean 0 and (unbiased) std 1; rows with a NaN score keep 0."""
    known_N = ~scores_N.isnan()
    centred_N = advantages_N - masked_mean(advantages_N, known_N)
    return masked(centred_N / (masked_var(advantages_N, known_N).sqrt() + eps), known_N)


@torch.no_grad()
def flat_groups(scores_N: Tensor, groups_N: Tensor) -> Tensor:
    """Share of the groups of two or more scores in which all are the same and teach nothing (scalar); NaN left out."""
    group = _Groups.of(scores_N, groups_N)
    compared_N = group.known & (group.sizes > 1)
    weights_N = masked(1.0 / group.sizes.clamp(min=1), compared_N)  # every group counts once
    return divide((~group.spread * weights_N).sum(), weights_N.sum())


@torch.no_grad()
def has_spread(scores_N: Tensor, groups_N: Tensor) -> Tensor:
    """Whether two scores of a row's group differ, (N,); NaN left out. Without that the group teaches nothing."""
    return _Groups.of(scores_N, groups_N).spread


class _Groups(NamedTuple):
    """Scores with NaN as 0, and for each row what its group has."""

    scores: Tensor
    known: Tensor
    labels: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, scores_N: Tensor, groups_N: Tensor) -> _Groups:
        known_N = ~scores_N.isnan()
        labels_N = torch.unique(groups_N, return_inverse=True)[1]
        draft = cls(masked(scores_N, known_N), known_N, labels_N, known_N)
        return draft._replace(sizes=draft.total(known_N.to(scores_N.dtype)))

    @property
    def mean(self) -> Tensor:
        return divide(self.total(self.scores), self.sizes)

    @property
    def spread(self) -> Tensor:
        """Whether any two known scores of each row's group differ."""
        return self._furthest("amax", -torch.inf) > self._furthest("amin", torch.inf)

    def _furthest(self, reduce: str, start: float) -> Tensor:
        """Each row's group's greatest or least known score."""
        scores = torch.where(self.known, self.scores, start)
        found = torch.full_like(scores, start).scatter_reduce(0, self.labels, scores, reduce)
        return found[self.labels]

    def total(self, values_N: Tensor) -> Tensor:
        """Each row's group sum of the known values."""
        sums = values_N.new_zeros(values_N.numel()).index_add(0, self.labels, masked(values_N, self.known))
        return sums[self.labels]
