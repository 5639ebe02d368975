"""What tests compare of two ways to compute one thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients(function: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor) -> list[Tensor]:
    """The value, and the gradients by all inputs of sum(value · grad)."""
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    output = function(*inputs)
    assert grad.shape == output.shape
    return [output.detach(), *torch.autograd.grad(output, inputs, grad.to(output.dtype))]
