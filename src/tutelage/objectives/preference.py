"""Learning from preferences without a reward model: the DPO family, SimPO, ORPO and KTO.

Log-probs are those of whole completions (the prompt is left out, the end of turn is in), summed over tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tutelage.objectives.masked import masked, masked_sum
from tutelage.objectives.types import LossOutput, Metrics, divide


class Pairs(NamedTuple):
    """Sequence log-probs (token sums) of B pairs and their numbers of tokens; everything is (B,)."""

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    ref_chosen: Tensor | None = None
    ref_rejected: Tensor | None = None
    labels: Tensor | None = None  # probability that the chosen one is the better one; None: certain

    def ref(self) -> tuple[Tensor, Tensor]:
        """The reference's sequence log-probs, which a loss with a reference must have been given."""
        assert self.ref_chosen is not None, "this loss needs reference log-probs"
        assert self.ref_rejected is not None, "this loss needs reference log-probs"
        return self.ref_chosen, self.ref_rejected


@dataclass(frozen=True)
class PreferenceSettings:
    """What the losses can be told; a loss reads the fields that its formula has."""

    beta: float = 0.1
    label_smoothing: float = 0.0
    gamma: float = 0.5  # SimPO's target margin, absolute (some quote gamma / beta)
    reference_free: bool = False  # leave the reference out of Δ (rewards in the metrics still have it)


def sequence_difference(pairs: Pairs, settings: PreferenceSettings) -> Tensor:
    """Δ = (log π_c − log π_r) − (log ref_c − log ref_r) of token sums, (B,)."""
    if settings.reference_free:
        return pairs.chosen - pairs.rejected
    ref_chosen, ref_rejected = pairs.ref()
    return (pairs.chosen - pairs.rejected) - (ref_chosen - ref_rejected)


def token_mean_difference(pairs: Pairs, settings: PreferenceSettings) -> Tensor:
    """Δ with each sequence's log-ratio divided by its number of tokens (at least 1), (B,)."""
    chosen, rejected = pairs.chosen, pairs.rejected
    if not settings.reference_free:
        ref_chosen, ref_rejected = pairs.ref()
        chosen, rejected = chosen - ref_chosen, rejected - ref_rejected
    return chosen / pairs.chosen_tokens.clamp(min=1) - rejected / pairs.rejected_tokens.clamp(min=1)


def wrong_labels(pairs: Pairs, settings: PreferenceSettings) -> float | Tensor:
    """P(a label is wrong): ε, or of soft labels p with flips on top (1 − p) + ε(2p − 1), (B,)."""
    eps = settings.label_smoothing
    return eps if pairs.labels is None else (1 - pairs.labels) + eps * (2 * pairs.labels - 1)


def sigmoid(pairs: Pairs, settings: PreferenceSettings) -> Tensor:
    """DPO (2305.18290): −log σ(βΔ); with label smoothing ε conservative DPO."""
    return _smoothed_nll(settings.beta * sequence_difference(pairs, settings), wrong_labels(pairs, settings))


def sigmoid_norm(pairs: Pairs, settings: PreferenceSettings) -> Tensor:
    """Length-normalised DPO: as `sigmoid`, with Δ of per-token means."""
    return _smoothed_nll(settings.beta * token_mean_difference(pairs, settings), wrong_labels(pairs, settings))


def robust(pairs: Pairs, settings: PreferenceSettings) -> Tensor:
    """Robust DPO (2403.00409): [−(1−ε) log σ(βΔ) + ε log σ(−βΔ)] / (1 − 2ε), ε < ½ the rate of flipped labels."""
    eps, logits = settings.label_smoothing, settings.beta * sequence_difference(pairs, settings)
    return (eps * logsigmoid(-logits) - (1 - eps) * logsigmoid(logits)) / (1 - 2 * eps)


def hinge(pairs: Pairs, settings: PreferenceSettings) -> Tensor:
    """SLiC's hinge (2305.10425) on the DPO margin: max(0, 1 − βΔ)."""
    return (1 - settings.beta * sequence_difference(pairs, settings)).relu()


def ipo(pairs: Pairs, settings: PreferenceSettings) -> Tensor:
    """IPO (2310.12036): (Δ − 1/(2β))², Δ of per-token means, as its authors confirmed."""
    return (token_mean_difference(pairs, settings) - 1 / (2 * settings.beta)).square()


def ipo_sum(pairs: Pairs, settings: PreferenceSettings) -> Tensor:
    """IPO as printed (2310.12036, eq. 17): Δ of token sums."""
    return (sequence_difference(pairs, settings) - 1 / (2 * settings.beta)).square()


def simpo(pairs: Pairs, settings: PreferenceSettings) -> Tensor:
    """SimPO (2405.14734): −log σ(β(mean_c − mean_r) − γ), per-token means, no reference."""
    chosen, rejected = _token_means(pairs)
    return _smoothed_nll(settings.beta * (chosen - rejected) - settings.gamma, wrong_labels(pairs, settings))


def orpo(pairs: Pairs, settings: PreferenceSettings) -> Tensor:
    """ORPO (2403.07691): per-token NLL of the chosen completion + the odds-ratio term with λ = β, no reference."""
    chosen, rejected = _token_means(pairs)
    return odds_ratio_term(chosen, rejected, settings.beta) - chosen


PreferenceLoss = Callable[[Pairs, PreferenceSettings], Tensor]

PREFERENCE_LOSSES: dict[str, PreferenceLoss] = {
    "sigmoid": sigmoid,
    "cdpo": sigmoid,
    "robust": robust,
    "hinge": hinge,
    "ipo": ipo,
    "ipo_sum": ipo_sum,
    "sigmoid_norm": sigmoid_norm,
    "simpo": simpo,
    "orpo": orpo,
}

SOFT_LABELS = frozenset({"sigmoid", "cdpo", "sigmoid_norm", "simpo"})
"""Losses that believe a label as far as its probability says; the others take every label as certain."""

WITHOUT_REFERENCE = frozenset({"simpo", "orpo"})
"""Losses that never look at a reference; their rewards are β times the per-token mean log-prob."""


def preference_loss(
    name: str,
    pairs: Pairs,
    settings: PreferenceSettings,
    *,
    sft_coef: float = 0.0,
    weights_B: Tensor | None = None,
) -> LossOutput:
    """The named loss (+ sft_coef · per-token NLL of chosen) summed over pairs; count = sum of weights (default 1 each).

    Metrics: `rewards/chosen|rejected|margins|accuracies` (a tie counts ½) and `logps/chosen|rejected`.
    """
    losses_B = PREFERENCE_LOSSES[name](pairs, settings)
    if sft_coef:
        losses_B = losses_B - sft_coef * _token_means(pairs)[0]
    weights_B = torch.ones_like(losses_B) if weights_B is None else weights_B.to(losses_B.dtype)
    return LossOutput((weights_B * losses_B).sum(), weights_B.sum(), _preference_metrics(name, pairs, settings))


def implicit_rewards(name: str, pairs: Pairs, settings: PreferenceSettings) -> tuple[Tensor, Tensor]:
    """Detached rewards (chosen, rejected) that the policy implies, each (B,)."""
    if name in WITHOUT_REFERENCE:
        chosen, rejected = _token_means(pairs)
    else:
        ref_chosen, ref_rejected = pairs.ref()
        chosen, rejected = pairs.chosen - ref_chosen, pairs.rejected - ref_rejected
    return settings.beta * chosen.detach(), settings.beta * rejected.detach()


def log1mexp(x: Tensor) -> Tensor:
    """log(1 − eˣ) for x < 0 without cancellation; from −eps/4 upwards it is constant, with no gradient.

    Each branch gets inputs that are safe for it, so that the branch not taken sends no NaN into the gradient.
    """
    x = x.clamp(max=-torch.finfo(x.dtype).eps / 4)
    near_zero = x > -0.6931471805599453
    small = torch.log(-torch.expm1(torch.where(near_zero, x, -0.5)))
    large = torch.log1p(-torch.exp(torch.where(near_zero, -1.0, x)))
    return torch.where(near_zero, small, large)


def log_odds_ratio(chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
    """log[odds(chosen) / odds(rejected)] of per-token mean log-probs, odds(p) = p / (1 − p)."""
    return (chosen_B - rejected_B) - (log1mexp(chosen_B) - log1mexp(rejected_B))


def odds_ratio_term(chosen_B: Tensor, rejected_B: Tensor, coef: float) -> Tensor:
    """ORPO's penalty −coef · log σ(log odds ratio) of per-token mean log-probs, (B,)."""
    return -coef * logsigmoid(log_odds_ratio(chosen_B, rejected_B))


def kto_baseline(kl_logprobs_K: Tensor, ref_kl_logprobs_K: Tensor) -> Tensor:
    """KTO's reference point z = max(0, mean log-ratio of mismatched prompt–completion pairs), detached (scalar).

    It belongs to the whole optimiser step: take it over all its micro-batches before the first of them is trained on.
    """
    log_ratios_K = (kl_logprobs_K - ref_kl_logprobs_K).detach()
    return divide(log_ratios_K.sum(), log_ratios_K.new_tensor(log_ratios_K.numel())).clamp(min=0)


def kto(
    logprobs_B: Tensor,
    ref_logprobs_B: Tensor,
    desirable_B: Tensor,
    baseline: Tensor,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> LossOutput:
    """KTO (2402.01306): w_D(1 − σ(β(h − z))) or w_U(1 − σ(β(z − h))), h = log π − log ref; count = examples."""
    log_ratios_B = logprobs_B - ref_logprobs_B
    losses_B = kto_losses(log_ratios_B, desirable_B, baseline, beta, desirable_weight, undesirable_weight)
    rewards_B = beta * log_ratios_B.detach()
    wanted, unwanted = desirable_B.sum().to(losses_B.dtype), (~desirable_B).sum().to(losses_B.dtype)
    metrics: Metrics = {
        "rewards/chosen": (masked_sum(rewards_B, desirable_B), wanted),
        "rewards/rejected": (masked_sum(rewards_B, ~desirable_B), unwanted),
        "logps/chosen": (masked_sum(logprobs_B.detach(), desirable_B), wanted),
        "logps/rejected": (masked_sum(logprobs_B.detach(), ~desirable_B), unwanted),
        "kl": (baseline.detach(), torch.ones_like(baseline)),
    }
    return LossOutput(losses_B.sum(), losses_B.detach().new_tensor(losses_B.numel()), metrics)


def kto_losses(
    log_ratios_B: Tensor, desirable_B: Tensor, baseline: Tensor, beta: float, desirable: float, undesirable: float
) -> Tensor:
    """KTO's loss of each example, (B,): 1 − σ(x) is written σ(−x), which keeps its digits for large x."""
    advantage_B = beta * (log_ratios_B - baseline)
    return torch.where(desirable_B, desirable * torch.sigmoid(-advantage_B), undesirable * torch.sigmoid(advantage_B))


def _smoothed_nll(logits_B: Tensor, eps: float | Tensor) -> Tensor:
    """−(1−ε) log σ(x) − ε log σ(−x)."""
    return -(1 - eps) * logsigmoid(logits_B) - eps * logsigmoid(-logits_B)


def _token_means(pairs: Pairs) -> tuple[Tensor, Tensor]:
    return pairs.chosen / pairs.chosen_tokens.clamp(min=1), pairs.rejected / pairs.rejected_tokens.clamp(min=1)


@torch.no_grad()
def _preference_metrics(name: str, pairs: Pairs, settings: PreferenceSettings) -> Metrics:
    chosen, rejected = implicit_rewards(name, pairs, settings)
    count = chosen.new_tensor(chosen.numel())
    ties = masked(torch.full_like(chosen, 0.5), chosen == rejected)
    return {
        "rewards/chosen": (chosen.sum(), count),
        "rewards/rejected": (rejected.sum(), count),
        "rewards/margins": ((chosen - rejected).sum(), count),
        "rewards/accuracies": ((ties + (chosen > rejected)).sum(), count),
        "logps/chosen": (pairs.chosen.sum(), count),
        "logps/rejected": (pairs.rejected.sum(), count),
    }
