"""Fixed points and properties of the objectives, beyond the golden numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tutelage.objectives.advantages import gae, token_rewards
from tutelage.objectives.distill import distillation_loss
from tutelage.objectives.kl import KL_ESTIMATORS, full_kl
from tutelage.objectives.lm import next_token_loss
from tutelage.objectives.logprobs import IGNORED, sequence_logprobs, shift_labels, token_entropy, token_logprobs
from tutelage.objectives.masked import masked_whiten
from tutelage.objectives.policy import Clip, explained_variance, mean_ratio, policy_loss, value_loss
from tutelage.objectives.preference import (
    PREFERENCE_LOSSES,
    WITHOUT_REFERENCE,
    Pairs,
    PreferenceSettings,
    kto,
    kto_baseline,
    log1mexp,
    preference_loss,
)
from tutelage.objectives.reward import bradley_terry, calibration_error, hinge, listwise
from tutelage.objectives.types import LossOutput, divide

SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_mask(rows: int, length: int, seed: int = 0) -> Tensor:
    """About two thirds set; the last row is empty."""
    mask = torch.rand(rows, length, generator=torch.Generator().manual_seed(seed)) < 0.66
    mask[-1] = False
    return mask


def pairs_at_reference(rows: int = 4) -> Pairs:
    chosen, rejected, tokens = -normal(rows).abs(), -normal(rows, seed=1).abs(), torch.arange(rows) + 3
    return Pairs(chosen, rejected, tokens, tokens + 1, chosen.clone(), rejected.clone())


# ---- fixed points


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, math.log(2)) for name in ("sigmoid", "cdpo", "robust", "sigmoid_norm")),
        ("hinge", 1.0),
        ("ipo", 25.0),
        ("ipo_sum", 25.0),
    ],
)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_preference_loss_where_policy_is_reference(name: str, value: float, label_smoothing: float) -> None:
    output = preference_loss(name, pairs_at_reference(), PreferenceSettings(0.1, label_smoothing))
    assert output.mean().item() == pytest.approx(value)
    assert divide(*output.metrics["rewards/accuracies"]).item() == 0.5  # all ties
    assert output.metrics["rewards/margins"][0] == 0


def test_kto_where_policy_is_reference() -> None:
    logprobs, desirable = normal(5), torch.tensor([True, False, True, True, False])
    assert kto(logprobs, logprobs, desirable, kto_baseline(logprobs, logprobs)).mean().item() == pytest.approx(0.5)


def test_the_first_pass_over_a_fresh_batch_is_on_policy() -> None:
    logprobs, mask = -normal(3, 5).abs(), random_mask(3, 5)
    metrics = policy_loss(logprobs, logprobs, normal(3, 5, seed=1), mask).metrics
    assert {name: divide(*metrics[name]).item() for name in ("val/ratio", "policy/approxkl", "policy/clipfrac")} == {
        "val/ratio": 1.0,
        "policy/approxkl": 0.0,
        "policy/clipfrac": 0.0,
    }


def test_kl_at_the_reference_is_zero_and_rewards_are_the_score_at_the_last_token() -> None:
    logprobs = -normal(3, 4).abs()
    mask = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]])
    kls = KL_ESTIMATORS["k1"](logprobs, logprobs)
    rewards = token_rewards(torch.tensor([2.0, 3.0, math.nan]).double(), kls, mask, kl_coef=0.1)
    assert rewards.tolist() == [[0, 2, 0, 0], [0, 0, 0, 3], [0, 0, 0, 0]]


@pytest.mark.parametrize("name", sorted(KL_ESTIMATORS))
def test_kl_estimators_are_zero_at_the_reference(name: str) -> None:
    logprobs = normal(3, 4).requires_grad_()
    estimate = KL_ESTIMATORS[name](logprobs, logprobs.detach())
    assert estimate.abs().max() == 0
    if name != "k1":  # whose gradient is not the KL's: its mean over samples is 0
        (gradient,) = torch.autograd.grad(estimate.sum(), logprobs)
        assert gradient.abs().max() == 0


def test_k1_and_k3_are_unbiased() -> None:
    policy, ref = normal(6).log_softmax(-1), normal(6, seed=1).log_softmax(-1)
    exact = full_kl(policy, ref)
    for name in ("k1", "k3"):
        torch.testing.assert_close((policy.exp() * KL_ESTIMATORS[name](policy, ref)).sum(), exact)


# ---- what is masked leaks nowhere, in value or in gradient

BAD = [math.nan, math.inf, -math.inf]


def leaky(logits: Tensor, mask: Tensor, other: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Objectives of per-token tensors that all hold bad values outside the mask."""
    scalar, second = logits[..., 0], other[..., 0]
    targets = torch.where(mask, 1, IGNORED)
    return {
        "lm": lambda: next_token_loss(logits, targets, mask).loss_sum,
        "logprobs": lambda: token_logprobs(logits, targets, mask, 0.7).sum(),
        "entropy": lambda: token_entropy(logits, mask).sum(),
        "sequence": lambda: sequence_logprobs(scalar, mask, mean=True).sum(),
        "whiten": lambda: (masked_whiten(scalar, mask) * torch.arange(scalar.numel()).reshape(mask.shape)).sum(),
        "distill": lambda: distillation_loss(logits, other, mask, beta=0.3).loss_sum,
        "reverse": lambda: distillation_loss(logits, other, mask, beta=1.0).loss_sum,
        "ppo": lambda: policy_loss(scalar, second, second, mask).loss_sum,
        "grpo": lambda: policy_loss(scalar, second, second, mask, ref_logprobs_BT=second, kl_coef=0.1).loss_sum,
        "gspo": lambda: (
            policy_loss(
                scalar, second, torch.ones(len(mask), 1), mask, clip=Clip(per_sequence=True), how="row_mean"
            ).loss_sum
        ),
        "value": lambda: value_loss(scalar, second, second, mask).loss_sum,
        "listwise": lambda: listwise(scalar, mask_BK=mask).loss_sum,
    }


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", leaky(torch.zeros(1, 1, 1), torch.ones(1, 1) > 0, torch.zeros(1, 1, 1)))
def test_nothing_leaks_out_of_what_is_masked(name: str, bad: float) -> None:
    mask = random_mask(4, 6, seed=3)
    results = []
    for outside in (0.0, bad):
        logits, other = (
            torch.where(mask.unsqueeze(-1), normal(4, 6, 5, seed=seed), outside).requires_grad_() for seed in (1, 2)
        )
        loss = leaky(logits, mask, other)[name]()
        (gradient,) = torch.autograd.grad(loss, logits)
        assert gradient[~mask].abs().max() == 0
        results.append((loss.detach(), gradient))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)
    assert results[0][1].abs().max() > 0


@pytest.mark.parametrize("name", leaky(torch.zeros(1, 1, 1), torch.ones(1, 1) > 0, torch.zeros(1, 1, 1)))
def test_an_empty_mask_gives_zero_with_a_graph(name: str) -> None:
    logits = normal(2, 3, 5).requires_grad_()
    loss = leaky(logits, torch.zeros(2, 3, dtype=torch.bool), normal(2, 3, 5, seed=1))[name]()
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.abs().max() == 0


def test_nan_outside_the_mask_does_not_reach_advantages_or_metrics() -> None:
    mask = random_mask(4, 6)
    bad, good = (torch.where(mask, normal(4, 6), outside) for outside in (math.nan, 0.0))
    for ours, wanted in zip(gae(bad, bad, mask), gae(good, good, mask), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=0, atol=0)
    assert explained_variance(bad, bad, mask) == 1
    assert mean_ratio(bad, bad, mask) == 1
    metrics = {**policy_loss(bad, bad, bad, mask).metrics, **value_loss(bad, bad, bad, mask).metrics}
    assert all(torch.isfinite(total) and torch.isfinite(count) for total, count in metrics.values())


# ---- split = whole


def joined(outputs: list[LossOutput]) -> tuple[Tensor, Tensor, dict[str, tuple[Tensor, Tensor]]]:
    metrics = {
        name: (
            torch.stack([output.metrics[name][0] for output in outputs]).sum(),
            torch.stack([output.metrics[name][1] for output in outputs]).sum(),
        )
        for name in outputs[0].metrics
    }
    return sum(o.loss_sum for o in outputs), sum(o.count for o in outputs), metrics


AGGREGATIONS = ["token_mean", "sequence_sum", "sequence_mean", "row_mean", "constant"]


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, cut=st.integers(1, 5))
def test_sums_and_counts_of_parts_add_up_to_the_whole(seed: int, cut: int) -> None:
    rows, length = 6, 5
    mask, logits, other = random_mask(rows, length, seed), normal(rows, length, 4, seed=seed), normal(rows, length, 4)
    values, targets = normal(rows, length, seed=seed + 1), torch.where(mask, 2, 0)
    pairs = pairs_at_reference(rows)._replace(chosen=-values[:, 0].abs(), rejected=-values[:, 1].abs())
    preference = PreferenceSettings(0.3, 0.1)
    objectives: list[Callable[[slice], LossOutput]] = [
        lambda s: next_token_loss(logits[s], targets[s], mask[s]),
        lambda s: distillation_loss(logits[s], other[s], mask[s], beta=0.5),
        lambda s: value_loss(values[s], logits[s][..., 0], other[s][..., 0], mask[s]),
        lambda s: bradley_terry(values[s, 0], values[s, 1], weights_B=values[s, 2].abs(), centring=0.01),
        lambda s: hinge(values[s, 0], values[s, 1]),
        lambda s: listwise(values[s], mask_BK=mask[s]),
    ]
    for name in PREFERENCE_LOSSES:
        objectives.append(
            lambda s, name=name: preference_loss(
                name, Pairs(*(None if column is None else column[s] for column in pairs)), preference, sft_coef=0.1
            )
        )
    for how in AGGREGATIONS:
        objectives.append(
            lambda s, how=how: policy_loss(
                values[s],
                logits[s][..., 0],
                other[s][..., 0],
                mask[s],
                how=how,
                length=length,
                ref_logprobs_BT=other[s][..., 1],
            )
        )
    for objective in objectives:
        whole = objective(slice(None))
        parts = joined([objective(slice(0, cut)), objective(slice(cut, rows))])
        torch.testing.assert_close(parts, (whole.loss_sum, whole.count, dict(whole.metrics)))


@few
@given(seed=SEEDS, extra=st.integers(1, 4))
def test_padding_changes_nothing(seed: int, extra: int) -> None:
    mask, logits = random_mask(3, 5, seed), normal(3, 5, 4, seed=seed)
    padded = torch.cat([logits, torch.full((3, extra, 4), math.nan, dtype=torch.float64)], 1)
    longer = torch.cat([mask, torch.zeros(3, extra, dtype=torch.bool)], 1)
    for how in ("token_mean", "sequence_mean"):
        short = policy_loss(logits[..., 0], logits[..., 1], logits[..., 2], mask, how=how).mean()
        long = policy_loss(padded[..., 0], padded[..., 1], padded[..., 2], longer, how=how).mean()
        torch.testing.assert_close(long, short)


# ---- language modelling


def test_labels_are_shifted_once_and_the_last_position_predicts_nothing() -> None:
    targets, mask = shift_labels(torch.tensor([[5, IGNORED, 7, 8]]))
    assert targets.tolist() == [[0, 7, 8, 0]]
    assert mask.tolist() == [[False, True, True, False]]


@few
@given(seed=SEEDS, temperature=st.floats(0.3, 3.0))
def test_token_logprobs_are_the_log_softmax(seed: int, temperature: float) -> None:
    logits, targets = normal(2, 3, 5, seed=seed), torch.randint(5, (2, 3))
    wanted = (logits / temperature).log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(token_logprobs(logits, targets, None, temperature), wanted)
    mask = random_mask(2, 3, seed)
    torch.testing.assert_close(token_logprobs(logits, targets, mask, temperature), torch.where(mask, wanted, 0.0))
    torch.testing.assert_close(
        next_token_loss(logits, targets, mask).loss_sum, -token_logprobs(logits, targets, mask).sum()
    )


def test_forbidden_tokens_have_no_entropy_and_no_gradient() -> None:
    logits = torch.tensor([[[0.0, 0.0, -math.inf]]], requires_grad=True)
    entropy = token_entropy(logits)
    assert entropy.item() == pytest.approx(math.log(2))
    (gradient,) = torch.autograd.grad(entropy.sum(), logits)
    assert gradient.abs().max() < 1e-6


def test_half_precision_is_computed_in_float32() -> None:
    logits = normal(2, 3, 50).bfloat16()
    targets = torch.zeros(2, 3, dtype=torch.long)
    assert torch.equal(token_logprobs(logits, targets), token_logprobs(logits.float(), targets))
    assert next_token_loss(logits, targets).loss_sum.dtype == torch.float32


# ---- reward models


@few
@given(seed=SEEDS)
def test_listwise_of_two_is_bradley_terry(seed: int) -> None:
    rewards = normal(5, 2, seed=seed)
    two, pair = listwise(rewards), bradley_terry(rewards[:, 0], rewards[:, 1])
    torch.testing.assert_close((two.loss_sum, two.count), (pair.loss_sum, pair.count))


@few
@given(seed=SEEDS)
def test_listwise_depends_on_ranks_not_on_places(seed: int) -> None:
    rewards, ranks = normal(3, 5, seed=seed), torch.tensor([[0, 1, 2, 3, 4], [2, 2, 0, 1, 1], [1, 1, 1, 1, 1]])
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    first, second = listwise(rewards, ranks), listwise(rewards[:, order], ranks[:, order])
    torch.testing.assert_close((second.loss_sum, second.count), (first.loss_sum, first.count))
    assert first.count == 2  # the third prompt is all ties: nothing to learn
    assert first.metrics["margin"][1] == 10 + 8


def test_soft_labels_run_between_the_two_orders() -> None:
    chosen, rejected = normal(4), normal(4, seed=1)
    forward, backward = bradley_terry(chosen, rejected).loss_sum, bradley_terry(rejected, chosen).loss_sum
    for p in (0.0, 0.3, 1.0):
        soft = bradley_terry(chosen, rejected, labels_B=torch.full((4,), p)).loss_sum
        torch.testing.assert_close(soft, p * forward + (1 - p) * backward)


def test_huge_reward_differences_stay_finite() -> None:
    chosen = torch.tensor([1e4, -1e4], requires_grad=True)
    output = bradley_terry(chosen, -chosen.detach())
    (gradient,) = torch.autograd.grad(output.loss_sum, chosen)
    assert output.loss_sum.item() == pytest.approx(2e4)
    assert gradient.tolist() == [0.0, -1.0]


def test_calibration_error_of_calibrated_and_of_overconfident_rewards() -> None:
    generator = torch.Generator().manual_seed(0)
    margins = 2 * torch.randn(20_000, generator=generator)
    right = torch.rand(20_000, generator=generator) < margins.sigmoid()
    calibrated = torch.where(right, margins, -margins)
    assert calibration_error(calibrated) < 0.02
    assert calibration_error(10 * calibrated) > 0.1
    assert calibration_error(torch.tensor([50.0])) == 0
    assert calibration_error(torch.tensor([-50.0])) == 1
    assert calibration_error(torch.tensor([])) == 0


# ---- preferences


@pytest.mark.parametrize("name", sorted(PREFERENCE_LOSSES))
def test_preference_losses_push_chosen_up_and_rejected_down(name: str) -> None:
    pairs = pairs_at_reference()
    chosen, rejected = pairs.chosen.requires_grad_(), pairs.rejected.requires_grad_()
    loss = preference_loss(name, pairs, PreferenceSettings()).loss_sum
    up, down = torch.autograd.grad(loss, (chosen, rejected))
    assert (up < 0).all()
    assert (down > 0).all()


@pytest.mark.parametrize("name", sorted(WITHOUT_REFERENCE))
def test_losses_without_reference_need_none(name: str) -> None:
    pairs = pairs_at_reference()
    with_reference = preference_loss(name, pairs, PreferenceSettings()).loss_sum
    without = preference_loss(name, pairs._replace(ref_chosen=None, ref_rejected=None), PreferenceSettings()).loss_sum
    assert torch.equal(with_reference, without)


def test_weights_are_a_weighted_mean_and_sft_adds_the_chosen_nll() -> None:
    pairs, settings_ = pairs_at_reference(), PreferenceSettings()
    pairs = pairs._replace(chosen=pairs.chosen + 1)
    single = PREFERENCE_LOSSES["sigmoid"](pairs, settings_)
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5])
    output = preference_loss("sigmoid", pairs, settings_, weights_B=weights, sft_coef=0.5)
    torch.testing.assert_close(output.count.item(), 3.5)
    torch.testing.assert_close(output.loss_sum, (weights * (single - 0.5 * pairs.chosen / pairs.chosen_tokens)).sum())


@given(x=st.floats(-700, -1e-12))
def test_log1mexp_agrees_with_high_precision(x: float) -> None:
    value = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    result = log1mexp(value)
    assert result.item() == pytest.approx(math.log(-math.expm1(x)) if x > -1 else math.log1p(-math.exp(x)), rel=1e-12)
    (gradient,) = torch.autograd.grad(result, value)
    assert gradient.item() == pytest.approx(math.exp(x) / math.expm1(x), rel=1e-9)


@pytest.mark.parametrize("mean_logprob", [0.0, -1e-9, -1e-3, -200.0])
def test_orpo_of_a_certain_completion_stays_finite(mean_logprob: float) -> None:
    chosen = torch.tensor([mean_logprob], requires_grad=True)
    pairs = Pairs(chosen, torch.tensor([-0.7]), torch.ones(1), torch.ones(1))
    output = preference_loss("orpo", pairs, PreferenceSettings())
    (gradient,) = torch.autograd.grad(output.loss_sum, chosen)
    assert torch.isfinite(output.loss_sum)
    assert torch.isfinite(gradient).all()


def test_kto_baseline_is_detached_and_never_negative() -> None:
    low = torch.tensor([-3.0, 1.0], requires_grad=True)
    assert kto_baseline(low, torch.zeros(2)) == 0
    high = kto_baseline(low + 5, torch.zeros(2))
    assert high == 4
    assert not high.requires_grad
    assert kto_baseline(torch.tensor([]), torch.tensor([])) == 0
