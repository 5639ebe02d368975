"""What an alignment stage costs beside time and memory, so that methods can be compared."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from tutelage.run.stage import StageRun


def record_cost(run: StageRun, models: Iterable[nn.Module], generated_tokens: int = 0) -> None:
    """Metrics `cost/models`, `cost/parameters`, `cost/generated_tokens`.

    `models` are those in memory while the policy is trained; one that is named twice, as a policy that is its own
    reference, is one.
    """
    distinct = {id(model): model for model in models}.values()
    parameters = {id(parameter): parameter.numel() for model in distinct for parameter in model.parameters()}
    run.metrics["cost/models"] = len(distinct)
    run.metrics["cost/parameters"] = sum(parameters.values())
    run.metrics["cost/generated_tokens"] = generated_tokens
