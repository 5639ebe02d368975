"""Methods side by side: what models that start from one model reached, how their seeds differ, what each took.

Everything follows from the manifests: two measured models are compared if their stages have the same `model` as input;
they are one method if their stages differ in nothing but the seed. What a method needs beside its own stage is what
leads to it and not to all others: a reward model, for instance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import fmean, stdev
from typing import Any

from tutelage.evaluation.report.facts import StageFacts
from tutelage.evaluation.report.text import finite

Row = Mapping[str, Any]
Measure = tuple[str, str]  # task, metric


@dataclass(frozen=True)
class Spread:
    """One value for each seed; `interval` is that of a single one."""

    values: Sequence[float]
    interval: tuple[float | None, float | None] = (None, None)

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of one run from another; None of a single one."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Cost:
    """What a method took: means over seeds, the most memory of any; None where a manifest does not tell."""

    seconds: float
    resumed: bool  # a stage was begun more than once, and `seconds` are those of the last time
    needs: Mapping[str, float]  # stages that others do without → seconds
    peak_memory: float | None
    models: float | None
    parameters: float | None
    generated_tokens: float | None
    settings: Sequence[str]  # those that not all of the methods have


@dataclass(frozen=True)
class Method:
    """Evaluated models of equal settings, one a seed, by label; `reached` has their results."""

    name: str
    stage: str
    labels: Sequence[str]
    seeds: Sequence[int]
    reached: Mapping[Measure, Spread]
    cost: Cost


@dataclass(frozen=True)
class Comparison:
    """The methods that start from one model; `before` has its own results, if it was evaluated."""

    start: str
    methods: Sequence[Method]
    before: Mapping[Measure, Spread] = field(default_factory=dict)


def labelled(stages: Sequence[StageFacts]) -> dict[str, StageFacts]:
    """Label → the stage that made the evaluated model."""
    by_name = {stage.name: stage for stage in stages}
    return {
        given.field.split(".", 1)[1]: by_name[given.stage]
        for stage in stages
        for given in stage.inputs
        if given.field.startswith("models.") and given.stage in by_name
    }


def measured(stages: Sequence[StageFacts], results: Sequence[Row]) -> dict[str, StageFacts]:
    """The same of those that the results are about: reports that are brought in have others."""
    labels = {str(row.get("model")) for row in results}
    return {label: stage for label, stage in labelled(stages).items() if label in labels}


def other_seeds(stages: Sequence[StageFacts], results: Sequence[Row]) -> set[str]:
    """Labels of the measured models that differ from an earlier one in nothing but the seed."""
    groups = (_groups(alike) for alike in _by_start(measured(stages, results)).values())
    return {label for group in chain.from_iterable(groups) for label in group[1:]}


def repeats(stages: Sequence[StageFacts], results: Sequence[Row]) -> set[str]:
    """Names of the stages that made those models, but for what another stage starts from."""
    models = measured(stages, results)
    names = {models[label].name for label in other_seeds(stages, results)}
    taken = (given for stage in stages if stage.name not in names for given in stage.inputs)
    return names - {given.stage for given in taken if not given.field.startswith("models.")}


def compare(stages: Sequence[StageFacts], results: Sequence[Row]) -> list[Comparison]:
    """A comparison for every model that two or more measured models start from; a model counts once."""
    starts = _by_start(measured(stages, results))
    return [_comparison(start, alike, stages, results) for start, alike in starts.items()]


def _by_start(models: Mapping[str, StageFacts]) -> dict[str, dict[str, StageFacts]]:
    """Model → those that start from it, by label, where they are two or more; a model counts once."""
    once: dict[str, StageFacts] = {}
    for label, stage in models.items():
        if stage.name not in {known.name for known in once.values()}:
            once[label] = stage
    starts: dict[str, dict[str, StageFacts]] = {}
    for label, stage in once.items():
        for start in (given.artifact for given in stage.inputs if given.field == "model"):
            starts.setdefault(start, {})[label] = stage
    return {start: alike for start, alike in starts.items() if len(alike) > 1}


def _comparison(
    start: str, models: Mapping[str, StageFacts], stages: Sequence[StageFacts], results: Sequence[Row]
) -> Comparison:
    groups = _groups(models)
    ancestors = {label: _ancestors(stage, stages) for label, stage in models.items()}
    shared = set.intersection(*ancestors.values())
    settings = {group[0]: _settings(models[group[0]], stages) for group in groups}
    common = set.intersection(*map(set, settings.values()))
    methods = []
    for group in groups:
        own = [models[label] for label in group]
        needs = [stage for stage in stages if stage.name in ancestors[group[0]] - shared]
        cost = _cost(own, needs, [name for name in settings[group[0]] if name not in common])
        seeds = [stage.seed for stage in own]
        methods.append(Method(group[0], own[0].stage, group, seeds, _reached(group, results), cost))
    before = [label for label, stage in labelled(stages).items() if stage.name == start]
    return Comparison(start, methods, _reached(before[:1], results))


def _groups(models: Mapping[str, StageFacts]) -> list[list[str]]:
    """Labels of models that differ in nothing but the seed, together."""
    groups: list[list[str]] = []
    for label, stage in models.items():
        for group in groups:
            if _recipe(models[group[0]]) == _recipe(stage):
                group.append(label)
                break
        else:
            groups.append([label])
    return groups


def _recipe(stage: StageFacts) -> Any:
    settings = {name: value for name, value in stage.config.items() if name != "seed"}
    return stage.stage, settings, [(given.field, given.artifact, given.fingerprint) for given in stage.inputs]


def _reached(labels: Sequence[str], results: Sequence[Row]) -> dict[Measure, Spread]:
    """Every measure of which all these models have a finite value."""
    found: dict[Measure, dict[str, Row]] = {}
    for row in results:
        if str(row.get("model")) in labels and finite(row.get("value")) is not None:
            found.setdefault((str(row.get("task")), str(row.get("metric"))), {})[str(row["model"])] = row
    return {
        measure: Spread(
            [float(rows[label]["value"]) for label in labels],
            (finite(rows[labels[0]].get("ci_low")), finite(rows[labels[0]].get("ci_high"))),
        )
        for measure, rows in found.items()
        if len(rows) == len(labels)
    }


def _cost(own: Sequence[StageFacts], needs: Sequence[StageFacts], settings: Sequence[str]) -> Cost:
    def mean(metric: str) -> float | None:
        told = [value for stage in own if (value := finite(stage.metrics.get(f"cost/{metric}"))) is not None]
        return fmean(told) if told else None

    peaks = [stage.peak_memory for stage in own if stage.peak_memory is not None]
    return Cost(
        seconds=fmean(stage.seconds for stage in own),
        resumed=any(stage.attempts > 1 for stage in own),
        needs={stage.name: stage.seconds for stage in needs},
        peak_memory=max(peaks, default=None),
        models=mean("models"),
        parameters=mean("parameters"),
        generated_tokens=mean("generated_tokens"),
        settings=settings,
    )


def _ancestors(stage: StageFacts, stages: Sequence[StageFacts]) -> set[str]:
    """Names of all stages that led to this one; those come before it in `stages`."""
    wanted = {given.stage for given in stage.inputs}
    for earlier in reversed(stages):
        if earlier.name in wanted:
            wanted |= {given.stage for given in earlier.inputs}
    return wanted


def _settings(stage: StageFacts, stages: Sequence[StageFacts]) -> list[str]:
    """Dotted names of everything that can be set; the seed is left out, and what is an input of any stage."""
    inputs = {given.field.split(".")[0] for other in stages for given in other.inputs}
    return [name for name in _leaves(stage.config) if name.split(".")[0] not in {*inputs, "stage", "seed"}]


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _leaves(item, f"{prefix}{key}.")
        else:
            yield prefix + str(key)
