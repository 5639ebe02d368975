"""Optimisers as one object: AdamW, or Muon for the matrices inside blocks beside AdamW for the rest."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.optim import AdamW, Optimizer

from tutelage.training.muon import Muon
from tutelage.training.settings import OptimizerSettings


def build_optimizers(model: nn.Module, settings: OptimizerSettings) -> list[Optimizer]:
    """Optimisers over the trainable parameters of `model`, with base rates in `initial_lr` of their groups.

    Muon (Jordan 2024) orthogonalises the update of a matrix; embeddings, heads, norms and biases are no such maps.
    """
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    matrices = [p for name, p in trainable if settings.kind == "muon" and p.ndim == 2 and ".layers." in f".{name}"]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in trainable if id(p) not in chosen]
    optimizers: list[Optimizer] = []
    if rest:
        decayed = [p for p in rest if p.ndim == 2]
        kept = [p for p in rest if p.ndim != 2]
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": kept, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
        optimizers.append(AdamW(groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, fused=True))
    if matrices:
        optimizers.append(
            Muon(
                matrices,
                lr=settings.muon_learning_rate,
                momentum=settings.muon_momentum,
                weight_decay=settings.weight_decay,
            )
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def set_rates(optimizers: Sequence[Optimizer], factor: float) -> None:
    """Multiply every group's base rate by `factor`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
