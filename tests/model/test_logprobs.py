from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tutelage.model import kernels
from tutelage.model import logprobs as module
from tutelage.model.logprobs import linear_logprobs


def inputs(num_targets: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    hidden_BTD = torch.randn(3, 7, 5, generator=random, requires_grad=True)
    weight_VD = torch.randn(11, 5, generator=random, requires_grad=True)
    targets_N = torch.full((21,), -100)
    places = torch.randperm(21, generator=random)[:num_targets]
    targets_N[places] = torch.randint(0, 11, (num_targets,), generator=random)
    return hidden_BTD, weight_VD, targets_N.view(3, 7)


def plain(hidden_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logprobs_BTV = (hidden_BTD @ weight_VD.T / temperature).log_softmax(-1)
    learnt = targets_BT >= 0
    chosen = logprobs_BTV.gather(-1, targets_BT.clamp(min=0)[..., None]).squeeze(-1)
    return chosen * learnt, -(logprobs_BTV.exp() * logprobs_BTV).sum(-1) * learnt


@pytest.fixture(params=["torch", "kernels"], autouse=True)
def computed_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled kernels are for large tensors only; here they are made to take small ones too, where there are any."""
    monkeypatch.setattr(kernels, "SMALLEST", 1 if request.param == "kernels" else 1 << 60)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("chunk_rows", [1, 5, 12, 100])
def test_equals_the_softmax_of_all_logits_in_value_and_gradient(
    monkeypatch: pytest.MonkeyPatch, temperature: float, chunk_rows: int
) -> None:
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", chunk_rows * 11)
    hidden_BTD, weight_VD, targets_BT = inputs()
    upstream = torch.linspace(-1, 2, 21).view(3, 7)
    ours = linear_logprobs(hidden_BTD, weight_VD, targets_BT, temperature)
    theirs, entropies = plain(hidden_BTD, weight_VD, targets_BT, temperature)
    assert_close(ours.logprobs, theirs)
    assert_close(ours.entropies, entropies)
    assert not ours.entropies.requires_grad
    ours_grads = torch.autograd.grad((ours.logprobs * upstream).sum(), (hidden_BTD, weight_VD))
    their_grads = torch.autograd.grad((theirs * upstream).sum(), (hidden_BTD, weight_VD))
    for our, their in zip(ours_grads, their_grads, strict=True):
        assert_close(our, their, rtol=1e-4, atol=1e-6)


def test_nothing_to_learn_gives_zeros_and_zero_gradients() -> None:
    hidden_BTD, weight_VD, targets_BT = inputs(num_targets=0)
    ours = linear_logprobs(hidden_BTD, weight_VD, targets_BT)
    assert not ours.logprobs.any()
    ours.logprobs.sum().backward()  # type: ignore[no-untyped-call]
    assert hidden_BTD.grad is not None
    assert not hidden_BTD.grad.any()
    assert weight_VD.grad is not None
    assert not weight_VD.grad.any()


def test_large_logits_neither_overflow_nor_lose_the_entropy() -> None:
    hidden_BTD = torch.full((1, 1, 1), 200.0)
    weight_VD = torch.tensor([[1.0], [1.0], [-1.0]])
    ours = linear_logprobs(hidden_BTD, weight_VD, torch.tensor([[2]]))
    assert float(ours.logprobs) == pytest.approx(-400 - 0.6931, rel=1e-6)
    assert float(ours.entropies) == pytest.approx(0.6931, abs=1e-3)


def test_bfloat16_activations_give_float32_results() -> None:
    hidden_BTD, weight_VD, targets_BT = inputs()
    ours = linear_logprobs(hidden_BTD.bfloat16(), weight_VD.bfloat16(), targets_BT)
    theirs, _ = plain(hidden_BTD, weight_VD, targets_BT, 1.0)
    assert ours.logprobs.dtype == torch.float32
    assert_close(ours.logprobs, theirs, rtol=0.05, atol=0.1)
