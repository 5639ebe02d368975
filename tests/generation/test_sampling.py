from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tutelage.generation.sampling import Sampling, draw, draw_by_kernel, draw_by_torch, uniform_numbers
from tutelage.model import kernels

# whole 64ths: what ties in float32 ties here too
logit_rows = st.lists(st.integers(-1280, 1280).map(lambda n: n / 64), min_size=2, max_size=12)
uniforms = st.floats(0, 1, exclude_max=True)


def drawn(logits: list[float], uniform: list[float], sampling: Sampling) -> tuple[Tensor, Tensor]:
    count = len(uniform)
    return draw(
        torch.tensor([logits] * count),
        torch.tensor(uniform, dtype=torch.float64),
        [sampling] * count,
    )


def probabilities(logits: list[float], temperature: float) -> Tensor:
    return (torch.tensor(logits, dtype=torch.float64) / temperature).softmax(-1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    logits = [2.0, 0.0, -1.0, 1.0, -8.0]
    numbers = uniform_numbers(range(400), 10).flatten().tolist()
    tokens, _ = drawn(logits, numbers, Sampling(temperature=temperature))
    counts = torch.bincount(tokens, minlength=5).double()
    expected = probabilities(logits, temperature) * len(numbers)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 18.5  # 4 degrees of freedom: exceeded once in a thousand; the seeds are fixed


@given(logit_rows, uniforms, st.sampled_from([0.3, 1.0, 3.0]))
def test_a_draw_inverts_the_cumulative_distribution(logits: list[float], uniform: float, temperature: float) -> None:
    tokens, logprobs = drawn(logits, [uniform], Sampling(temperature=temperature))
    chances = probabilities(logits, temperature)
    token, cumulative = int(tokens), chances.cumsum(0)
    assert float(cumulative[token]) >= uniform - 1e-6
    assert token == 0 or float(cumulative[token - 1]) <= uniform + 1e-6
    assert float(logprobs) == pytest.approx(float(chances[token].log()), abs=1e-4)


@given(logit_rows, uniforms)
def test_temperature_zero_takes_the_likeliest(logits: list[float], uniform: float) -> None:
    tokens, logprobs = drawn(logits, [uniform], Sampling(temperature=0, top_k=2, min_p=0.3))
    assert logits[int(tokens)] == max(logits)
    assert float(logprobs) == pytest.approx(float(probabilities(logits, 1.0).log().max()), abs=1e-4)


@settings(deadline=None)
@given(logit_rows, st.lists(uniforms, min_size=1, max_size=20), st.integers(0, 14), st.floats(0.01, 1), st.floats(0, 1))
def test_only_tokens_that_pass_every_filter_are_drawn(
    logits: list[float], numbers: list[float], top_k: int, top_p: float, min_p: float
) -> None:
    tokens, logprobs = drawn(logits, numbers, Sampling(top_k=top_k, top_p=top_p, min_p=min_p))
    chances = probabilities(logits, 1.0)
    for token, logprob in zip(tokens.tolist(), logprobs.tolist(), strict=True):
        better = chances > chances[token]
        assert top_k == 0 or int(better.sum()) < top_k
        assert float(chances[better].sum()) < top_p + 1e-6
        assert better.sum() == 0 or float(chances[token]) >= min_p * float(chances.max()) - 1e-6
        assert logprob == pytest.approx(float(chances[token].log()), abs=1e-4)  # of the distribution before filters


@given(logit_rows, st.lists(uniforms, min_size=1, max_size=20))
def test_filters_that_filter_nothing_change_nothing(logits: list[float], numbers: list[float]) -> None:
    plain, _ = drawn(logits, numbers, Sampling())
    loose, _ = drawn(logits, numbers, Sampling(top_k=len(logits), top_p=1.0, min_p=1e-300))
    assert torch.equal(plain, loose)


def test_rows_of_one_batch_keep_their_own_settings() -> None:
    logits_BV = torch.tensor([[1.0, 2.0, 3.0]]).expand(3, 3)
    uniform_B = torch.tensor([0.0, 0.0, 0.0], dtype=torch.float64)
    samplings = [Sampling(temperature=1.0), Sampling(temperature=0.0), Sampling(top_k=2)]
    tokens, _ = draw(logits_BV, uniform_B, samplings)
    assert tokens.tolist() == [0, 2, 1]


def test_random_numbers_belong_to_the_seed_not_to_the_batch() -> None:
    together = uniform_numbers([5, 2**64 - 1, 7], 9)
    assert torch.equal(together[1:2], uniform_numbers([2**64 - 1], 9))
    assert torch.equal(together[:, :4], uniform_numbers([5, 2**64 - 1, 7], 4))
    assert not torch.equal(together[0], together[2])
    assert ((together >= 0) & (together < 1)).all()


compiled = pytest.mark.skipif(not kernels.available(), reason=kernels.why_not() or "no kernels")


@compiled
@pytest.mark.parametrize("vocabulary", [2, 7, 255, 257, 5000])
def test_the_kernel_draws_what_torch_draws(vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    samplings = [
        Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
        for temperature in (0.0, 0.5, 1.3)
        for top_k in (0, 1, 5)
        for top_p in (1.0, 0.9, 0.3)
        for min_p in (0.0, 0.1)
    ]
    logits_BV = torch.randn(len(samplings), vocabulary, generator=generator) * 3
    logits_BV[:, 0] = -torch.inf
    for _ in range(20):
        uniform_B = torch.rand(len(samplings), generator=generator, dtype=torch.float64)
        tokens_B, logprobs_B = draw_by_kernel(logits_BV, uniform_B, samplings)
        wanted_B, wanted_logprobs_B = draw_by_torch(logits_BV, uniform_B, samplings)
        assert torch.equal(tokens_B, wanted_B)
        torch.testing.assert_close(logprobs_B, wanted_logprobs_B, rtol=1e-5, atol=1e-5)


@compiled
@given(st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=12), uniforms, st.integers(1, 13))
def test_of_equal_chances_the_kernel_keeps_the_first_as_torch_does(
    logits: list[float], uniform: float, top_k: int
) -> None:
    arguments = torch.tensor([logits]), torch.tensor([uniform], dtype=torch.float64), [Sampling(top_k=top_k)]
    (by_kernel, _), (by_torch, _) = draw_by_kernel(*arguments), draw_by_torch(*arguments)
    chances = probabilities(logits, 1.0)
    kept = chances.sort(descending=True, stable=True).indices[:top_k].tolist()
    assert int(by_kernel) in kept
    cumulative = torch.where(torch.isin(torch.arange(len(logits)), torch.tensor(kept)), chances, 0.0).cumsum(0)
    on_edge = bool(((cumulative / cumulative[-1] - uniform).abs() < 1e-6).any())
    assert on_edge or torch.equal(by_kernel, by_torch)


def test_a_penalty_weakens_what_was_seen_and_leaves_the_log_probability_the_models_own() -> None:
    logits_BV = torch.tensor([[2.0, 1.5, -1.0], [-0.5, -0.6, -9.0]])
    seen_BV = torch.tensor([[True, False, False], [True, False, False]])
    uniform_B = torch.zeros(2, dtype=torch.float64)
    tokens, logprobs = draw(logits_BV, uniform_B, [Sampling(temperature=0, repetition_penalty=1.5)] * 2, seen_BV)
    assert tokens.tolist() == [1, 1]
    torch.testing.assert_close(logprobs, logits_BV.log_softmax(-1)[[0, 1], tokens])
    tokens, _ = draw(logits_BV, uniform_B, [Sampling(temperature=0, repetition_penalty=1.1)] * 2, seen_BV)
    assert tokens.tolist() == [0, 0]
    untouched, _ = draw(logits_BV, uniform_B, [Sampling(temperature=0)] * 2, seen_BV)
    assert untouched.tolist() == [0, 0]
