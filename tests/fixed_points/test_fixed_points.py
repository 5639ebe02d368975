"""PPO, GRPO, RLOO, DPO and IPO reach the exact optimum of E[r] − β·KL, and published GRPO reaches another one."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from conformance.golden_io import Case
from tutelage.objectives.kl import k1
from tutelage.objectives.policy import policy_loss
from tutelage.objectives.preference import Pairs, PreferenceSettings, preference_loss

from .training import Method, grpo, grpo_kl_in_loss, ppo, rloo, train_on_pairs, train_online
from .world import TabularPolicy, World, at_random, golden_cases, world_of

CASES = golden_cases()
RANDOM = [case for case in CASES if case.id.startswith("random")]
OTHERS = [case for case in CASES if case not in RANDOM]
ONLINE: Mapping[str, Method] = {"ppo": ppo, "grpo": grpo, "rloo": rloo}
every_online_method = pytest.mark.parametrize("name", ONLINE)


def of_cases(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.id for case in cases])


def assert_at_optimum(world: World, policy: TabularPolicy, beta: float, reward: torch.Tensor | None = None) -> None:
    """E[r] and KL within 2 % of the best policy's; a KL of 0 within 0.002 nats."""
    found, best = world.value(policy, beta, reward), world.optimum(beta, reward)
    assert found.expected_reward.item() == pytest.approx(best.expected_reward.item(), rel=0.02)
    assert found.kl.item() == pytest.approx(best.kl.item(), rel=0.02, abs=0.002)


def test_three_betas_are_measured() -> None:
    assert len({case.params["beta"] for case in RANDOM}) >= 3


@of_cases(RANDOM)
@every_online_method
def test_online_methods_reach_the_optimum(name: str, case: Case) -> None:
    world, beta = world_of(case), case.params["beta"]
    assert_at_optimum(world, train_online(world, ONLINE[name], beta), beta)


@of_cases(RANDOM)
def test_dpo_reaches_the_optimum_of_the_rewards_behind_its_pairs(case: Case) -> None:
    world, beta = world_of(case), case.params["beta"]
    assert_at_optimum(world, train_on_pairs(world, "sigmoid", beta), beta)


@pytest.mark.parametrize("beta", [0.1, 0.25, 0.5])
def test_ipo_reaches_the_optimum_of_the_probability_of_winning(beta: float) -> None:
    """IPO's reward of a reply is its chance against a random one (2310.12036, eq. 8)."""
    world = world_of(RANDOM[0])
    reward_S = world.reward.flatten()
    wins = torch.sigmoid(reward_S.unsqueeze(1) - reward_S).mean(1).view_as(world.reward)
    assert_at_optimum(world, train_on_pairs(world, "ipo_sum", beta, pairs_a_step=2048), beta, wins)


def test_ipo_of_token_means_is_ipo_of_sums_with_beta_divided_by_the_length() -> None:
    logprobs = -torch.rand(4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = Pairs(logprobs[0], logprobs[1], torch.tensor(3), torch.tensor(3), logprobs[2], logprobs[3])
    of_sums = preference_loss("ipo_sum", pairs, PreferenceSettings(0.2)).mean()
    of_means = preference_loss("ipo", pairs, PreferenceSettings(0.6)).mean()
    torch.testing.assert_close(of_means, of_sums / 9)


@every_online_method
def test_online_methods_reach_the_optimum_from_independent_samples(name: str) -> None:
    """No trick in the drawing: at the optimum all advantages are 0, so the noise vanishes as it is approached."""
    case = RANDOM[-1]
    world, beta = world_of(case), case.params["beta"]
    policy = train_online(
        world, ONLINE[name], beta, num_batches=150, rollouts=512, draw=at_random, learning_rate=0.1, seed=1
    )
    assert_at_optimum(world, policy, beta)


@pytest.mark.slow
@of_cases(OTHERS)
@every_online_method
def test_online_methods_reach_the_optimum_of_every_other_world(name: str, case: Case) -> None:
    world, beta = world_of(case), case.params["beta"]
    assert_at_optimum(world, train_online(world, ONLINE[name], beta, rollouts=4096, num_batches=150), beta)


# Left out: pairs there are sure to within e⁻¹⁴, so the loss is flat long before the rewards behind them are found.
@pytest.mark.slow
@of_cases([case for case in OTHERS if case.id != "sharp-reward-beta0.5"])
@pytest.mark.parametrize("loss", ["sigmoid", "robust"])
def test_dpo_reaches_the_optimum_of_every_other_world(loss: str, case: Case) -> None:
    world, beta = world_of(case), case.params["beta"]
    assert_at_optimum(world, train_on_pairs(world, loss, beta, num_steps=1500), beta)


# ---- the KL as a term of the loss


def test_grpo_with_its_kl_in_the_loss_has_another_fixed_point() -> None:
    """As published (2402.03300, eq. 3) GRPO is far from the optimum of E[r] − β·KL(π ‖ ref)."""
    case = RANDOM[-1]
    world, beta = world_of(case), case.params["beta"]
    found, best = world.value(train_online(world, grpo_kl_in_loss, beta), beta), world.optimum(beta)
    assert found.kl > 1.2 * best.kl
    assert found.objective < best.objective - 0.1


def single_token_gradient(rewards_V: torch.Tensor, counts_V: torch.Tensor, ref_V: torch.Tensor, beta: float):
    """Gradient of GRPO's loss in the logits of one token, over a batch in which token a comes `counts_V[a]` times."""
    logits = counts_V.double().log().requires_grad_()
    logprobs = logits.log_softmax(-1).repeat_interleave(counts_V).unsqueeze(1)
    refs = ref_V.log().repeat_interleave(counts_V).unsqueeze(1)
    scores = rewards_V.repeat_interleave(counts_V).unsqueeze(1)
    output = policy_loss(logprobs, logprobs.detach(), scores - scores.mean(), torch.ones_like(logprobs) > 0,
                         ref_logprobs_BT=refs, kl_coef=beta)  # fmt: skip
    return torch.autograd.grad(output.mean(), logits)[0]


def test_k3_in_the_loss_pulls_like_the_kl_of_the_reference_to_the_policy() -> None:
    """k3 estimates KL(π ‖ ref), its gradient is that of KL(ref ‖ π): π = β·ref / (λ − r), not ref·exp(r/β)/Z."""
    beta, counts, ref = 0.3, torch.tensor([1, 2, 4, 9]), torch.tensor([0.1, 0.2, 0.3, 0.4]).double()
    policy = counts / counts.sum()
    forward = 2.0 - beta * ref / policy
    assert single_token_gradient(forward, counts, ref, beta).abs().max() < 1e-12
    reverse = beta * k1(policy.log(), ref.log())
    assert single_token_gradient(reverse, counts, ref, beta).abs().max() > 1e-3
