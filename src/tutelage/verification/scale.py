"""A recipe made small: the same stages and connections, a few steps each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.run.recipe import Recipe
from tutelage.run.references import accepted_types

# field → the most that a small copy has of it; `None` in a recipe means "all", so it is replaced too
_AT_MOST: Mapping[str, int] = {
    "num_steps": 8,
    "num_rollout_batches": 3,
    "rollouts_a_batch": 16,
    "conversations_a_step": 16,
    "replay_rows": 2,
    "rows_a_step": 2,
    "pairs_a_step": 8,
    "replies_a_step": 16,
    "prompts_a_step": 4,
    "prompts_a_batch": 8,
    "num_replies": 2,
    "max_tokens": 24,
    "facts": 44,
    "documents_per_entity": 4,
    "conversations": 400,
    "prompts": 60,
    "limit": 400,
    "validation_rows": 8,
    "global_batch_tokens": 2048,
    "micro_batch_tokens": 2048,
    "model.hidden_size": 64,
    "model.num_hidden_layers": 2,
    "shape.num_hidden_layers": 2,
}


def small_overrides(recipe: Recipe, threads: int, dtype: str) -> Iterator[str]:
    """Overrides `stage.key=value` for a copy that takes a minute and not ten; it checkpoints at every step.

    `threads` and `dtype` are those of the run: both decide the order or the width of floating-point sums, and
    `precision: auto` would measure anew.
    """
    yield f"threads={threads}"
    for name, config in recipe.stages.items():
        values = config.model_dump(mode="json")
        taken = accepted_types(type(config))
        for field, most in _AT_MOST.items():
            value = _get(values, field)
            if field not in taken and (value is None or (isinstance(value, int | float) and value > most)):
                yield f"{name}.{field}={most}"
        if _get(values, "loop.checkpoint_seconds") is not _ABSENT:
            yield f"{name}.loop.checkpoint_seconds=0"
        if values.get("precision") == "auto":
            yield f"{name}.precision={dtype}"


_ABSENT = object()


def _get(values: Any, field: str) -> Any:
    for part in field.split("."):
        if not isinstance(values, dict) or part not in values:
            return _ABSENT
        values = values[part]
    return values


def measured_dtype(run: Path) -> str:
    """What `precision: auto` chose in this run; float32 when it was never asked."""
    path = run / "precision.json"
    return str(json.loads(path.read_text(encoding="utf-8"))["chosen"]) if path.exists() else "float32"
