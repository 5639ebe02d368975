"""Low-rank adapters (LoRA, Hu et al., arXiv 2106.09685): y = x Wᵀ + (alpha / rank) · x Aᵀ Bᵀ, of which A and B train.

An adapter changes a model from outside; names of its base weights stay. It is stored in the folder format of PEFT.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from tutelage.model.transformer import CausalLM, Linear

A, B = ".lora_A", ".lora_B"


@dataclass(frozen=True)
class Adapter:
    """Which maps are adapted and how: `base` names the model that the adapter belongs to."""

    rank: int
    alpha: float
    target_modules: Sequence[str]
    base: str = ""

    @property
    def scale(self) -> float:
        """What the low-rank product is multiplied by."""
        return self.alpha / self.rank


class LoRALinear(Linear):
    """A frozen linear map and a trained product of rank r; B starts at 0, so the map starts as it was."""

    def __init__(self, base: Linear, adapter: Adapter, generator: torch.Generator) -> None:
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.adapter, self.enabled = adapter, True
        self.lora_A = nn.Parameter(torch.empty(adapter.rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, adapter.rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5), generator=generator)

    def forward(self, input: Tensor) -> Tensor:
        """The map with its adapter, or without while `adapters_off`."""
        out = super().forward(input)
        if not self.enabled:
            return out
        low = F.linear(input, self.lora_A.to(input.dtype))
        return out + self.adapter.scale * F.linear(low, self.lora_B.to(input.dtype))

    def matrix(self) -> Tensor:
        """W with the adapter in it, unless it is off."""
        if not self.enabled:
            return self.weight
        return self.weight + self.adapter.scale * (self.lora_B @ self.lora_A)


def add_adapter(model: CausalLM, adapter: Adapter, seed: int) -> CausalLM:
    """Freeze the model and put an adapter on its target maps, in place."""
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Linear) and name in adapter.target_modules:
                setattr(module, name, LoRALinear(child, adapter, generator))
    return model


def adapter_of(model: nn.Module) -> Adapter | None:
    """The adapter that a model has, if it has one."""
    return next((module.adapter for module in model.modules() if isinstance(module, LoRALinear)), None)


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """The model as it was before its adapter: the reference of a policy that trains only an adapter."""
    adapted = [module for module in model.modules() if isinstance(module, LoRALinear)]
    for module in adapted:
        module.enabled = False
    try:
        yield
    finally:
        for module in adapted:
            module.enabled = True


def merged(state: Mapping[str, Tensor], adapter: Adapter) -> dict[str, Tensor]:
    """The state of a plain model with the adapter added to its weights: W + scale · B A."""
    plain = {name: tensor for name, tensor in state.items() if not name.endswith((A, B))}
    for name in (name.removesuffix(A) for name in state if name.endswith(A)):
        plain[f"{name}.weight"] = plain[f"{name}.weight"] + adapter.scale * (state[f"{name}{B}"] @ state[f"{name}{A}"])
    return plain


def save_adapter(state: Mapping[str, Tensor], adapter: Adapter, folder: Path) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` as PEFT reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"base_model.model.{name}.weight": tensor.detach().contiguous()
        for name, tensor in state.items()
        if name.endswith((A, B))
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "target_modules": list(adapter.target_modules),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
