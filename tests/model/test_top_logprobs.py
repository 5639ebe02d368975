"""The likeliest tokens and the mass of all others, against the softmax of all logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tutelage.model import top_logprobs as module
from tutelage.model.top_logprobs import linear_logprobs_at, linear_tops

V, D = 11, 5


def inputs(num_targets: int = 12, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    hidden_BTD = (scale * torch.randn(3, 7, D, generator=random)).requires_grad_()
    weight_VD = torch.randn(V, D, generator=random, requires_grad=True)
    targets_N = torch.full((21,), -100)
    places = torch.randperm(21, generator=random)[:num_targets]
    targets_N[places] = torch.randint(0, V, (num_targets,), generator=random)
    return hidden_BTD, weight_VD, targets_N.view(3, 7)


def plain(
    hidden_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, tokens_NK: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    keep_BT = targets_BT >= 0
    logits_NV = hidden_BTD[keep_BT] @ weight_VD.T
    logprobs_NV = (logits_NV / temperature).log_softmax(-1)
    others_NV = logprobs_NV.scatter(1, tokens_NK, -torch.inf)
    targets_N = logits_NV.log_softmax(-1).gather(1, targets_BT[keep_BT][:, None]).squeeze(1)
    return logprobs_NV.gather(1, tokens_NK), others_NV.logsumexp(-1), targets_N


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(("k", "chunk_rows"), [(1, 5), (4, 1), (4, 100), (V, 5)])
def test_equals_the_softmax_of_all_logits_in_value_and_gradient(
    monkeypatch: pytest.MonkeyPatch, temperature: float, k: int, chunk_rows: int
) -> None:
    monkeypatch.setattr(module, "LEAST_ROWS", chunk_rows)
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 1)
    hidden_BTD, weight_VD, targets_BT = inputs()
    random = torch.Generator().manual_seed(2)
    tokens_NK = torch.stack([torch.randperm(V, generator=random)[:k] for _ in range(12)])
    ours = linear_logprobs_at(hidden_BTD, weight_VD, targets_BT, tokens_NK, temperature)
    theirs = plain(hidden_BTD, weight_VD, targets_BT, tokens_NK, temperature)
    for our, their in zip(ours[:3], theirs, strict=True):
        assert_close(our, their)
    assert ours.likeliest_N.tolist() == (hidden_BTD[targets_BT >= 0] @ weight_VD.T).argmax(-1).tolist()
    if k == V:  # nothing is left, and nothing comes back from it
        assert (ours.rests_N == -torch.inf).all()

    def total(logprobs_NK: Tensor, rests_N: Tensor, targets_N: Tensor) -> Tensor:
        rest = rests_N @ torch.linspace(2, -1, 12) if k < V else 0.0
        return (logprobs_NK * torch.linspace(-1, 2, 12 * k).view(12, k)).sum() + rest + targets_N.square().sum()

    our_grads = torch.autograd.grad(total(*ours[:3]), (hidden_BTD, weight_VD))
    their_grads = torch.autograd.grad(total(*theirs), (hidden_BTD, weight_VD))
    for our, their in zip(our_grads, their_grads, strict=True):
        assert_close(our, their, rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_likeliest_come_first_and_with_the_rest_they_are_all(temperature: float) -> None:
    hidden_BTD, weight_VD, _ = inputs()
    hidden_ND = hidden_BTD.detach().flatten(0, 1)
    whole = linear_tops(hidden_ND, weight_VD, V, temperature)
    assert (whole.rests_N == -torch.inf).all()
    for k in (1, 3, 10):
        tops = linear_tops(hidden_ND, weight_VD, k, temperature)
        assert_close(tops.logprobs_NK, whole.logprobs_NK[:, :k])
        assert_close(tops.table.exp().sum(1), torch.ones(21))
        assert tops.tokens_NK.equal(whole.tokens_NK[:, :k])
        targets_BT = torch.zeros(3, 7, dtype=torch.long)
        same = linear_logprobs_at(hidden_BTD, weight_VD, targets_BT, tops.tokens_NK, temperature)
        assert_close(same.table, tops.table)


def test_a_student_that_leaves_almost_nothing_has_a_gradient_that_is_a_number() -> None:
    hidden_BTD, weight_VD, targets_BT = inputs(scale=300.0)
    tokens_NK = linear_tops(hidden_BTD.detach()[targets_BT >= 0], weight_VD, 2).tokens_NK
    found = linear_logprobs_at(hidden_BTD, weight_VD, targets_BT, tokens_NK)
    assert found.rests_N.min() < module.LEAST_REST
    for gradient in torch.autograd.grad(found.rests_N.sum(), (hidden_BTD, weight_VD)):
        assert gradient.isfinite().all()


def test_nothing_to_learn_gives_zero_gradients() -> None:
    hidden_BTD, weight_VD, targets_BT = inputs(num_targets=0)
    found = linear_logprobs_at(hidden_BTD, weight_VD, targets_BT, torch.empty(0, 3, dtype=torch.int32))
    for gradient in torch.autograd.grad(found.table.sum() + found.targets_N.sum(), (hidden_BTD, weight_VD)):
        assert not gradient.any()
    assert linear_tops(hidden_BTD.detach()[targets_BT >= 0], weight_VD, 3).table.shape == (0, 4)
