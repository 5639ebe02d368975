"""Distillation: divergences between a teacher's and a student's next-token distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tutelage.objectives.kl import full_kl
from tutelage.objectives.logprobs import selected_logits
from tutelage.objectives.types import LossOutput


def forward_kl(teacher_NV: Tensor, student_NV: Tensor) -> Tensor:
    """KL(teacher ‖ student) of log-probs, (N,): the student covers whatever the teacher may say."""
    return full_kl(teacher_NV, student_NV)


def reverse_kl(teacher_NV: Tensor, student_NV: Tensor) -> Tensor:
    """KL(student ‖ teacher) of log-probs, (N,): the student keeps to what the teacher would say."""
    return full_kl(student_NV, teacher_NV)


def jensen_shannon(teacher_NV: Tensor, student_NV: Tensor, beta: float) -> Tensor:
    """β·KL(T ‖ M) + (1 − β)·KL(S ‖ M) with M = βT + (1 − β)S, of log-probs, (N,), 0 < β < 1 (GKD 2306.13649, eq. 1)."""
    # logaddexp(−inf, −inf) has no gradient that is a number.
    impossible = (teacher_NV == -torch.inf) & (student_NV == -torch.inf)
    mixture_NV = torch.logaddexp(
        teacher_NV.masked_fill(impossible, 0.0) + math.log(beta),
        student_NV.masked_fill(impossible, 0.0) + math.log1p(-beta),
    ).masked_fill(impossible, -torch.inf)
    return beta * full_kl(teacher_NV, mixture_NV) + (1 - beta) * full_kl(student_NV, mixture_NV)


def divergence(teacher_NV: Tensor, student_NV: Tensor, beta: float) -> Tensor:
    """GKD's scale, (N,): β = 0 forward KL, β = 1 reverse KL, in between the generalised Jensen–Shannon divergence.

    The ends are special cases, not limits: the divergence itself goes to 0 at both.
    """
    if beta == 0.0:
        return forward_kl(teacher_NV, student_NV)
    if beta == 1.0:
        return reverse_kl(teacher_NV, student_NV)
    return jensen_shannon(teacher_NV, student_NV, beta)


def distillation_loss(
    student_logits_BTV: Tensor,
    teacher_logits_BTV: Tensor,
    mask_BT: Tensor | None = None,
    *,
    beta: float = 0.0,
    temperature: float = 1.0,
) -> LossOutput:
    """Divergence (see `divergence`) summed over the selected tokens; count = their number.

    Both logits are divided by the temperature, in float32 at least, and the loss is not multiplied by its square. The
    teacher is a constant. Metrics: `distill/divergence`.
    """
    student_NV = selected_logits(student_logits_BTV, mask_BT, temperature).log_softmax(-1)
    teacher_NV = selected_logits(teacher_logits_BTV.detach(), mask_BT, temperature).log_softmax(-1)
    losses_N = divergence(teacher_NV, student_NV, beta)
    count = losses_N.detach().new_tensor(losses_N.numel())
    loss_sum = losses_N.sum()
    return LossOutput(loss_sum, count, {"distill/divergence": (loss_sum.detach(), count)})


def table_loss(
    student_NK: Tensor,
    teacher_NK: Tensor,
    target_logprobs_N: Tensor,
    *,
    beta: float = 0.0,
    next_token_share: float = 0.0,
) -> LossOutput:
    """(1 − share) · divergence − share · log P(target), summed over N tokens; count = N.

    The tables hold log-probs of the same K outcomes in every row, such as a teacher's likeliest tokens and "another
    one". Taking outcomes together never raises a divergence: it is exact if each token is one of its own.
    Metrics: `distill/divergence`, `distill/next_token`, both in nats a token.
    """
    divergence_sum = divergence(teacher_NK.detach(), student_NK, beta).sum()
    next_token_sum = -target_logprobs_N.sum()
    count = target_logprobs_N.detach().new_tensor(target_logprobs_N.numel())
    return LossOutput(
        (1 - next_token_share) * divergence_sum + next_token_share * next_token_sum,
        count,
        {
            "distill/divergence": (divergence_sum.detach(), count),
            "distill/next_token": (next_token_sum.detach(), count),
        },
    )
