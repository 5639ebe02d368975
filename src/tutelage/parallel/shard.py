"""Sharding from outside (FSDP2, arXiv 2304.11277): no stage and no model knows of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from tutelage.model.transformer import Block
from tutelage.parallel.world import World


def shard(model: nn.Module, world: World) -> nn.Module:
    """Shard parameters, gradients and optimiser state over the world, block by block; the same model for one process.

    Gradients are summed over ranks, not averaged: the loop divides by the count of the whole step.
    """
    if world.mesh is None:
        return model
    for module in model.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=world.mesh)
    fully_shard(model, mesh=world.mesh)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return model


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of a shard (a collective call); a plain tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like_shard(value: Tensor, target: Tensor) -> Tensor:
    """A full tensor split as `target` is (a collective call); the tensor as it is for a plain target."""
    if isinstance(target, DTensor):
        return distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    return value


@torch.no_grad()
def copy_whole(target: Tensor, value: Tensor) -> None:
    """Fill a tensor, or this rank's shard of it, from the full value."""
    target.copy_(like_shard(value, target))


def whole_state(model: nn.Module) -> Mapping[str, Tensor]:
    """The model's state with full tensors (a collective call)."""
    return {name: whole(tensor) for name, tensor in model.state_dict().items()}
