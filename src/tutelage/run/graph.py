"""The recipe as a graph: who takes what from whom, checked before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from tutelage.errors import RecipeError
from tutelage.run.artifacts import ArtifactType, Takes
from tutelage.run.recipe import Recipe, Specs
from tutelage.run.references import references
from tutelage.run.words import did_you_mean


@dataclass(frozen=True)
class Edge:
    """`field` of a stage refers to `producer`'s output `output` ("" when it has only one)."""

    field: str
    producer: str
    output: str
    type: ArtifactType

    @property
    def reference(self) -> str:
        """The artifact's name, as recipes write it."""
        return artifact_name(self.producer, self.output)


def artifact_name(stage: str, output: str) -> str:
    """`stage` or `stage.output`."""
    return f"{stage}.{output}" if output else stage


@dataclass(frozen=True)
class Graph:
    """A recipe whose references all fit; `order` is topological and otherwise that of the file."""

    recipe: Recipe
    specs: Specs
    edges: Mapping[str, tuple[Edge, ...]]
    order: tuple[str, ...]

    def spec_name(self, stage: str) -> str:
        """The type of a stage: its key in STAGES."""
        return self.recipe.stages[stage].stage

    def outputs(self, stage: str) -> Mapping[str, ArtifactType]:
        """Output name → type."""
        return self.specs[self.spec_name(stage)].outputs

    def with_descendants(self, stages: Iterable[str]) -> set[str]:
        """The stages and all that depend on them."""
        found = set(stages)
        for stage in self.order:
            if any(edge.producer in found for edge in self.edges[stage]):
                found.add(stage)
        return found

    def with_ancestors(self, stages: Iterable[str]) -> set[str]:
        """The stages and all that they depend on."""
        found = set(stages)
        for stage in reversed(self.order):
            if stage in found:
                found.update(edge.producer for edge in self.edges[stage])
        return found


def build_graph(recipe: Recipe, specs: Specs) -> Graph:
    """Resolve all references. Raises RecipeError for all that are dangling, of a wrong type, or cyclic."""
    problems: list[str] = []
    edges: dict[str, tuple[Edge, ...]] = {}
    for stage, config in recipe.stages.items():
        found = []
        for path, reference, takes in references(config):
            edge = _resolve(recipe, specs, stage, path, reference, takes)
            if isinstance(edge, Edge):
                found.append(edge)
            else:
                problems.append(f"{recipe.where('stages', stage, *_keys(path))}: {edge}")
        edges[stage] = tuple(found)
    if len(problems) == 1:
        raise RecipeError(problems[0], hint="name a stage of this recipe, or stage.output")
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise RecipeError(f"{recipe.source}: {len(problems)} references do not fit\n{listed}")
    return Graph(recipe, specs, edges, _order(recipe, edges))


def _keys(path: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdecimal() else part for part in path.split("."))


def _resolve(recipe: Recipe, specs: Specs, stage: str, path: str, reference: str, takes: Takes) -> Edge | str:
    """The edge, or a sentence that says why there is none."""
    producer, dot, output = reference.partition(".")
    if producer == stage:
        return f"stage {stage} cannot take its own output"
    if producer not in recipe.stages:
        return f"there is no stage {producer!r}; {did_you_mean(producer, [s for s in recipe.stages if s != stage])}"
    outputs = specs[recipe.stages[producer].stage].outputs
    if output not in outputs or (dot and not output):
        names = [artifact_name(producer, name) for name in outputs]
        if not output:
            return f"{producer} gives several artifacts; write one of {', '.join(names)}"
        return f"{producer} gives no {output!r}; {did_you_mean(f'{producer}.{output}', names)}"
    given = outputs[output]
    if given in takes.types:
        return Edge(path, producer, output, given)
    fitting = [
        artifact_name(other, name)
        for other, config in recipe.stages.items()
        for name, type_ in specs[config.stage].outputs.items()
        if type_ in takes.types and other != stage
    ]
    wanted = " or ".join(takes.types)
    kind, producer_kind = recipe.stages[stage].stage, recipe.stages[producer].stage
    return (
        f"{stage} (a {kind} stage) takes {wanted} here, but {reference} (from a {producer_kind} stage) is {given}; "
        + (f"these would fit: {', '.join(fitting)}" if fitting else f"no stage of this recipe gives {wanted}")
    )


def _order(recipe: Recipe, edges: Mapping[str, tuple[Edge, ...]]) -> tuple[str, ...]:
    order: list[str] = []
    waiting = list(recipe.stages)
    while waiting:
        ready = next((s for s in waiting if all(edge.producer in order for edge in edges[s])), None)
        if ready is None:
            cycle = _cycle(waiting, edges)
            where = recipe.where("stages", cycle[0])
            raise RecipeError(
                f"{where}: the stages go round in a circle: {' ← '.join(cycle)}",
                hint="one of these stages must take its input from somewhere else",
            )
        waiting.remove(ready)
        order.append(ready)
    return tuple(order)


def _cycle(waiting: list[str], edges: Mapping[str, tuple[Edge, ...]]) -> list[str]:
    """Follow unmet inputs until a stage comes again: every waiting stage has one."""
    path = [waiting[0]]
    while True:
        following = next(edge.producer for edge in edges[path[-1]] if edge.producer in waiting)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)


@dataclass(frozen=True)
class Selection:
    """Which stages a command is about, and which of them run even if they are up to date."""

    stages: frozenset[str]
    forced: frozenset[str]


def select(graph: Graph, only: Collection[str] = (), start: Collection[str] = ()) -> Selection:
    """`--only` takes stages as they are; `--from` takes them and all that depend on them, and forces them."""
    for name in [*only, *start]:
        if name not in graph.order:
            option = "--only" if name in only else "--from"
            raise RecipeError(f"{option} {name}: there is no such stage; {did_you_mean(name, graph.order)}")
    forced = graph.with_descendants(start) if start else set()
    stages = set(only) | forced if only or start else set(graph.order)
    return Selection(frozenset(stages), frozenset(forced))
