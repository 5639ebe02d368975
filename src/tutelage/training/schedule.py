"""Learning-rate schedule: warm-up, stable, decay (Hu et al., arXiv 2404.06395)."""

from __future__ import annotations

from tutelage.training.settings import OptimizerSettings


def rate_factor(step: int, num_steps: int, settings: OptimizerSettings) -> float:
    """What the learning rate is multiplied by at `step` (from 0): linear rise, plateau, linear fall."""
    warmup = round(settings.warmup_share * num_steps)
    decay = round(settings.decay_share * num_steps)
    rise = (step + 1) / (warmup + 1)
    fall = (num_steps - step) / (decay + 1)
    return min(rise, 1.0, settings.final_share + (1 - settings.final_share) * fall)
