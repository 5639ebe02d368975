"""Estimators of KL(π ‖ ref) from log-probs of sampled tokens, and the controller of its coefficient.

Per token d = log π − log ref; k1 = d is unbiased, k2 = d²/2 has low variance and a useful gradient, k3 = e^−d + d − 1
is unbiased and never negative (Schulman, "Approximating KL divergence", 2020).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

KlEstimator = Callable[[Tensor, Tensor], Tensor]


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """d: unbiased, may be negative."""
    return logprobs - ref_logprobs


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """d²/2: biased, never negative; its gradient is that of the KL on samples of the policy."""
    return 0.5 * (logprobs - ref_logprobs).square()


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """e^−d + d − 1: unbiased, never negative."""
    d = logprobs - ref_logprobs
    return torch.expm1(-d) + d


def k3_clamped(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """k3 of d held to ±20, then held to at most 10, so that one token cannot outweigh a batch."""
    d = (logprobs - ref_logprobs).clamp(-20, 20)
    return (torch.expm1(-d) + d).clamp(-10, 10)


def absolute(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """|d|."""
    return (logprobs - ref_logprobs).abs()


def with_k2_gradient(estimator: KlEstimator) -> KlEstimator:
    """The estimator's value with the gradient of k2: straight-through."""

    def estimate(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
        gradient = k2(logprobs, ref_logprobs)
        return estimator(logprobs, ref_logprobs).detach() + (gradient - gradient.detach())

    return estimate


KL_ESTIMATORS: dict[str, KlEstimator] = {
    "k1": k1,
    "k2": k2,
    "k3": k3,
    "k3_clamped": k3_clamped,
    "abs": absolute,
    "k1+": with_k2_gradient(k1),
    "k3+": with_k2_gradient(k3),
    "k3_clamped+": with_k2_gradient(k3_clamped),
}


def full_kl(logprobs_BTV: Tensor, ref_logprobs_BTV: Tensor) -> Tensor:
    """Exact KL(π ‖ ref) of each token from whole tables of log-probs, (B, T); p = 0 adds nothing."""
    impossible = logprobs_BTV == -torch.inf
    difference_BTV = logprobs_BTV.masked_fill(impossible, 0.0) - ref_logprobs_BTV.masked_fill(impossible, 0.0)
    return (logprobs_BTV.exp() * difference_BTV).sum(-1)


def adaptive_kl_coef(
    kl_coef: float, observed_kl: float, *, target: float, num_samples: int, horizon: int = 10_000
) -> float:
    """The next KL coefficient: raised when the KL is above its target, lowered when below (1909.08593, section 2.2).

    The relative error is held to ±0.2; `num_samples` sequences move the coefficient by `num_samples / horizon` of it.
    """
    error = min(max(observed_kl / target - 1.0, -0.2), 0.2)
    return kl_coef * (1.0 + error * num_samples / horizon)
