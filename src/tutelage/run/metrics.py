"""Which metrics to show where there is room for two or three."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tutelage.run.progress import format_value

_TELLING = (
    "validation/bits_per_byte",
    "validation/loss",
    "validation/accuracy",
    "rewards/accuracies",
    "rewards/margins",
    "win_rate",
    "reward",
    "kl",
    "kept",
    "documents",
    "tokens",
)


def headline(metrics: Mapping[str, float | str], count: int) -> list[str]:
    """Up to `count` metrics as `name value`, the most telling first."""
    return [f"{name} {format_value(metrics[name])}" for name in telling(metrics)[:count]]


def telling(metrics: Collection[str]) -> list[str]:
    """All names of metrics, the most telling first, else in the stage's order."""
    return [name for name in _TELLING if name in metrics] + [name for name in metrics if name not in _TELLING]
