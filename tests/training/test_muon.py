from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tutelage.training.muon import Muon, orthogonalise

SHAPES = [(12, 8), (8, 12), (12, 8), (8, 8)]


def matrices(seed: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=random) for shape in SHAPES]


def walk(optimizer_of: type[torch.optim.Optimizer], parameters: list[nn.Parameter], **settings: float) -> list[Tensor]:
    optimizer = optimizer_of(parameters, lr=0.02, momentum=0.9, weight_decay=0.1, **settings)  # type: ignore[call-arg]
    for step in range(1, 6):
        for parameter, gradient in zip(parameters, matrices(step), strict=True):
            parameter.grad = gradient
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 40, 16), (1, 16, 16)])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_singular_values_end_near_one_and_directions_stay(shape: tuple[int, ...], size: float) -> None:
    updates = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * size
    result = orthogonalise(updates)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.3
    assert values.max() < 1.3
    # what is left of the sum of singular values when it is seen along the original directions: they have not turned
    u, _, vh = torch.linalg.svd(updates, full_matrices=False)
    aligned = torch.diagonal(u.mT @ result @ vh.mT, dim1=-2, dim2=-1)
    assert_close(aligned.sort(descending=True, dim=-1).values, values, rtol=1e-3, atol=1e-3)


def test_a_gradient_of_zeros_moves_nothing() -> None:
    assert not orthogonalise(torch.zeros(2, 4, 6)).any()


def test_steps_are_those_of_torch_within_its_bfloat16() -> None:
    ours = walk(Muon, [nn.Parameter(m) for m in matrices(0)])
    theirs = walk(torch.optim.Muon, [nn.Parameter(m) for m in matrices(0)])
    for our, their, start in zip(ours, theirs, matrices(0), strict=True):
        assert (our - their).norm() < 0.02 * (our - start).norm()


def test_a_matrix_moves_as_it_would_alone() -> None:
    together = walk(Muon, [nn.Parameter(m) for m in matrices(0)])
    for place, start in enumerate(matrices(0)):
        parameter = nn.Parameter(start)
        optimizer = Muon([parameter], lr=0.02, momentum=0.9, weight_decay=0.1)
        for step in range(1, 6):
            parameter.grad = matrices(step)[place]
            optimizer.step()
        assert_close(parameter.detach(), together[place])
