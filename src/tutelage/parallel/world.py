"""The processes that train together. One process is a world of size 1 and takes the same path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

Item = TypeVar("Item")


@dataclass(frozen=True)
class World:
    """Rank, size, and the mesh over which models are sharded; `mesh` is None for a single process without a group."""

    rank: int = 0
    size: int = 1
    mesh: DeviceMesh | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of every rank's tensor."""
        if self.mesh is None:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total, group=self.mesh.get_group())
        return total

    def share(self, items: Sequence[Item]) -> list[tuple[Item, bool]]:
        """This rank's part of one step's micro-batches, every `size`-th, each with whether it counts.

        A sharded model computes on all ranks together, so all get as many: a rank that has run out is given the last
        one once more, which does not count.
        """
        places = range(self.rank, -(-len(items) // self.size) * self.size, self.size)
        return [(items[min(place, len(items) - 1)], place < len(items)) for place in places]

    def barrier(self) -> None:
        """Wait for all."""
        if self.mesh is not None:
            dist.barrier(self.mesh.get_group())


def world_from_environment() -> World:
    """The world that `torchrun` (RANK, WORLD_SIZE) describes; a single process without them."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    mesh = init_device_mesh(device, (dist.get_world_size(),), mesh_dim_names=("shard",))
    return World(dist.get_rank(), dist.get_world_size(), mesh)
