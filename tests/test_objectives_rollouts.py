"""Advantages, policy losses, distillation and the exact optimum: properties beyond the golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tutelage.objectives.advantages import (
    combine_rewards,
    flat_groups,
    gae,
    grpo_advantages,
    has_spread,
    normalise,
    rloo_advantages,
)
from tutelage.objectives.distill import distillation_loss, divergence, table_loss
from tutelage.objectives.kl import adaptive_kl_coef
from tutelage.objectives.masked import masked_mean, masked_var, masked_whiten
from tutelage.objectives.optimum import kl_regularised_optimum, policy_value, table_logprobs
from tutelage.objectives.policy import Clip, policy_loss, ppo_loss, value_loss
from tutelage.objectives.preference import Pairs, PreferenceSettings, preference_loss

SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_mask(rows: int, length: int, seed: int = 0) -> Tensor:
    """About two thirds set; the last row is empty."""
    mask = torch.rand(rows, length, generator=torch.Generator().manual_seed(seed)) < 0.66
    mask[-1] = False
    return mask


# ---- rollouts


def slow_gae(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """A_t = Σ_k (γλ)^k δ_{t+k}, by its definition."""
    deltas = [r + gamma * v_next - v for r, v, v_next in zip(rewards, values, [*values, 0.0][1:], strict=True)]
    return [sum((gamma * lam) ** k * d for k, d in enumerate(deltas[t:])) for t in range(len(deltas))]


@few
@given(seed=SEEDS, gamma=st.floats(0, 1), lam=st.floats(0, 1))
def test_gae_is_its_definition_on_the_tokens_of_the_mask(seed: int, gamma: float, lam: float) -> None:
    rewards, values, mask = normal(3, 8, seed=seed), normal(3, 8, seed=seed + 1), random_mask(3, 8, seed)
    advantages, returns = gae(rewards, values, mask, gamma=gamma, lam=lam)
    for row in range(3):
        kept = mask[row]
        wanted = slow_gae(rewards[row][kept].tolist(), values[row][kept].tolist(), gamma, lam)
        torch.testing.assert_close(advantages[row][kept].tolist(), wanted)
    torch.testing.assert_close(returns[mask], (advantages + values)[mask])
    assert advantages[~mask].abs().max() == returns[~mask].abs().max() == 0


def test_whitening_gives_mean_zero_and_unit_unbiased_variance() -> None:
    values, mask = 5 + 3 * normal(4, 50), random_mask(4, 50)
    whitened = masked_whiten(values, mask)
    assert masked_mean(whitened, mask).item() == pytest.approx(0, abs=1e-9)
    assert whitened[mask].var().item() == pytest.approx(1)
    assert masked_var(values, mask).item() == pytest.approx(values[mask].var().item())
    single = torch.zeros(1, 3, dtype=torch.bool)
    single[0, 1] = True
    assert masked_whiten(values[:1, :3], single).tolist() == [[0.0, 0.0, 0.0]]


@few
@given(seed=SEEDS)
def test_group_advantages_do_not_depend_on_the_order_of_rows(seed: int) -> None:
    scores, groups = normal(9, seed=seed), torch.tensor([4, 4, 4, 0, 0, 7, 7, 7, 7])
    order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    for advantages in (grpo_advantages, rloo_advantages):
        torch.testing.assert_close(advantages(scores[order], groups[order]), advantages(scores, groups)[order])
    with_gap = torch.cat([scores, torch.tensor([math.nan]).double()])
    more_groups = torch.cat([groups, torch.tensor([4])])
    for advantages in (grpo_advantages, rloo_advantages):
        result = advantages(with_gap, more_groups)
        torch.testing.assert_close(result[:-1], advantages(scores, groups))
        assert result[-1] == 0
    torch.testing.assert_close(rloo_advantages(scores, groups)[3], scores[3] - scores[4])
    normalised = normalise(rloo_advantages(scores, groups), scores, eps=0.0)
    assert normalised.std().item() == pytest.approx(1)


def test_a_group_of_one_and_a_group_of_equals_learn_nothing() -> None:
    scores, groups = torch.tensor([3.0, 0.1, 0.1, 0.1]), torch.tensor([1, 2, 2, 2])
    assert grpo_advantages(scores, groups).abs().max() < 1e-3
    assert rloo_advantages(scores, groups).abs().max() < 1e-6


def test_missing_rewards_are_left_out_of_the_sum() -> None:
    rewards = torch.tensor([[1.0, math.nan], [math.nan, math.nan], [1.0, 2.0]])
    combined = combine_rewards(rewards, torch.tensor([1.0, 10.0]))
    torch.testing.assert_close(combined, torch.tensor([1.0, math.nan, 21.0]), equal_nan=True)


@pytest.mark.parametrize(
    ("advantage", "log_ratio", "clip", "has_gradient"),
    [
        (1.0, 0.5, Clip(), False),  # already much likelier: no more push
        (1.0, -0.5, Clip(), True),
        (-1.0, -0.5, Clip(), False),  # already much rarer
        (-1.0, 0.5, Clip(), True),
        (1.0, 0.22, Clip(high=0.28), True),  # clip-higher
        (-1.0, 2.0, Clip(dual=3.0), False),  # dual clip bounds the loss of a bad token
        (-1.0, 2.0, Clip(max_ratio=3.0), False),  # so does the two-sided clip
        (-1.0, 30.0, Clip(max_log_ratio=20.0), False),
    ],
)
def test_clipping_stops_the_gradient(advantage: float, log_ratio: float, clip: Clip, has_gradient: bool) -> None:
    logprobs = torch.full((1, 1), log_ratio, requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool)
    output = policy_loss(logprobs, torch.zeros(1, 1), torch.full((1, 1), advantage), mask, clip=clip)
    (gradient,) = torch.autograd.grad(output.loss_sum, logprobs)
    assert (gradient.item() != 0) == has_gradient
    if has_gradient:
        assert math.copysign(1, gradient.item()) == -math.copysign(1, advantage)


def test_a_skipped_batch_has_no_loss_and_no_gradient_even_if_the_ratio_overflows() -> None:
    logprobs, mask = torch.full((1, 2), 200.0, requires_grad=True), torch.ones(1, 2, dtype=torch.bool)
    values = torch.zeros(1, 2, requires_grad=True)
    zeros = torch.zeros(1, 2)
    policy = policy_loss(logprobs, zeros, torch.tensor([[1.0, -1.0]]), mask)
    output = ppo_loss(policy, value_loss(values, zeros, zeros, mask), logprobs, skip=True)
    (gradient,) = torch.autograd.grad(output.loss_sum, logprobs)
    assert output.loss_sum == 0
    assert gradient.abs().max() == 0


def test_the_kl_controller_moves_towards_its_target() -> None:
    assert adaptive_kl_coef(0.1, 6.0, target=6.0, num_samples=64) == 0.1
    assert adaptive_kl_coef(0.1, 60.0, target=6.0, num_samples=100, horizon=1000) == pytest.approx(0.1 * 1.02)
    assert adaptive_kl_coef(0.1, 0.0, target=6.0, num_samples=100, horizon=1000) == pytest.approx(0.1 * 0.98)


# ---- distillation and the exact optimum


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_divergence_is_zero_only_where_student_is_teacher(beta: float, temperature: float) -> None:
    teacher = normal(2, 3, 5)
    teacher[..., 0] = -math.inf  # forbidden to both
    student = teacher.clone().requires_grad_()
    same = distillation_loss(student, teacher, beta=beta, temperature=temperature)
    (gradient,) = torch.autograd.grad(same.loss_sum, student)
    assert same.loss_sum.abs().item() < 1e-12
    assert gradient.abs().max() < 1e-12
    other = teacher + normal(2, 3, 5, seed=1)
    assert distillation_loss(other, teacher, beta=beta, temperature=temperature).loss_sum > 1e-3


def test_half_jensen_shannon_is_symmetric_and_the_rest_mirror() -> None:
    a, b = normal(2, 3, 5), normal(2, 3, 5, seed=1)
    for beta in (0.0, 0.2, 0.5):
        one = distillation_loss(a, b, beta=beta).loss_sum
        torch.testing.assert_close(distillation_loss(b, a, beta=1 - beta).loss_sum, one)
    assert distillation_loss(a, b, beta=0.5).mean() < math.log(2)


@few
@given(seed=SEEDS, beta=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_taking_outcomes_together_never_raises_a_divergence(seed: int, beta: float) -> None:
    a, b = normal(4, 6, seed=seed).log_softmax(-1), normal(4, 6, seed=seed + 1).log_softmax(-1)
    together = [torch.cat((table[:, :3], table[:, 3:].logsumexp(-1, keepdim=True)), 1) for table in (a, b)]
    assert (divergence(*together, beta) <= divergence(a, b, beta) + 1e-12).all()
    impossible = [torch.cat((table, torch.full((4, 1), -math.inf, dtype=table.dtype)), 1) for table in (a, b)]
    torch.testing.assert_close(divergence(*impossible, beta), divergence(a, b, beta))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_a_loss_of_whole_tables_is_that_of_the_logits_and_shares_add_up(beta: float) -> None:
    student, teacher, targets = normal(7, 5), normal(7, 5, seed=1), torch.arange(7) % 5
    tables = student.log_softmax(-1), teacher.log_softmax(-1), student.log_softmax(-1)[torch.arange(7), targets]
    losses = [table_loss(*tables, beta=beta, next_token_share=share).mean() for share in (0.0, 0.25, 1.0)]
    torch.testing.assert_close(losses[0], distillation_loss(student, teacher, beta=beta).mean())
    torch.testing.assert_close(losses[1], 0.75 * losses[0] + 0.25 * losses[2])
    torch.testing.assert_close(losses[2], torch.nn.functional.cross_entropy(student, targets))


def test_no_policy_beats_the_optimum_and_the_optimum_has_no_gradient() -> None:
    tables = [normal(*(4,) * (t + 1), seed=t) for t in range(3)]
    ref, reward = table_logprobs(tables), normal(4, 4, 4, seed=9)
    best = kl_regularised_optimum(ref, reward, beta=0.3)
    torch.testing.assert_close(best.value.objective, 0.3 * best.log_z)
    optimal = [table.clone().requires_grad_() for table in best.conditionals]
    torch.testing.assert_close(table_logprobs(optimal), best.logprobs)
    value = policy_value(table_logprobs(optimal), ref, reward, 0.3).objective
    for gradient in torch.autograd.grad(value, optimal):
        assert gradient.abs().max() < 1e-12
    for seed in range(20):
        near = [table + 0.1 * normal(*table.shape, seed=seed) for table in best.conditionals]
        assert policy_value(table_logprobs(near), ref, reward, 0.3).objective < best.value.objective


def test_dpo_has_the_optimum_of_the_rewards_that_its_pairs_come_from() -> None:
    """Pairs labelled by σ(r_a − r_b), weighed exactly: the gradient of DPO at π* of that reward is 0."""
    ref, reward, beta = normal(5).log_softmax(-1), normal(5, seed=1), 0.4
    best = kl_regularised_optimum(ref, reward, beta).logprobs
    first, second = torch.cartesian_prod(torch.arange(5), torch.arange(5)).T
    ones = torch.ones(25)

    def gradient_at(logprobs: Tensor) -> Tensor:
        logits = logprobs.clone().requires_grad_()
        policy = logits.log_softmax(-1)
        pairs = Pairs(policy[first], policy[second], ones, ones, ref[first], ref[second])
        weights = torch.sigmoid(reward[first] - reward[second])
        output = preference_loss("sigmoid", pairs, PreferenceSettings(beta), weights_B=weights)
        return torch.autograd.grad(output.mean(), logits)[0]

    assert gradient_at(best).abs().max() < 1e-12
    assert gradient_at(ref).abs().max() > 1e-3


@given(st.floats(-100, 100, width=32), st.integers(2, 17))
def test_equal_scores_have_no_spread_whatever_their_mean_rounds_to(score: float, size: int) -> None:
    scores, groups = torch.full((size,), score), torch.zeros(size, dtype=torch.long)
    assert not has_spread(scores, groups).any()
    assert flat_groups(scores, groups) == 1
    scores[-1] = torch.nextafter(scores[0], torch.tensor(1000.0))
    assert has_spread(scores, groups).all()
    scores[-1] = torch.nan
    assert not has_spread(scores, groups).any()
