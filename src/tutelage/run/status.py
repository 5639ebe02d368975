"""What is done, what is not, and why: for `tutelage status` and `--dry-run`. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tutelage.run.artifacts import Artifact
from tutelage.run.graph import Graph, Selection, artifact_name
from tutelage.run.journal import read_journal
from tutelage.run.manifest import JOURNAL, Manifest
from tutelage.run.publish import partial_of
from tutelage.run.request import judge, make_request


@dataclass(frozen=True)
class StageState:
    """One row: `state` is done, stale, partial or not run; `reason` says why it is not done."""

    name: str
    stage: str
    inputs: tuple[str, ...]
    state: str
    reason: str
    selected: bool
    manifest: Manifest | None


def survey(graph: Graph, directory: Path, selection: Selection) -> list[StageState]:
    """The state of every stage, in order, without changing anything."""
    artifacts: dict[str, Artifact] = {}
    states: dict[str, StageState] = {}
    for name in graph.order:
        state = _state(graph, directory, selection, name, states, artifacts)
        states[name] = state
        if state.manifest is not None:
            for output in graph.outputs(name):
                if output in state.manifest.artifacts:
                    artifacts[artifact_name(name, output)] = state.manifest.artifact(directory / name, output)
    return list(states.values())


def _state(
    graph: Graph,
    directory: Path,
    selection: Selection,
    name: str,
    states: Mapping[str, StageState],
    artifacts: Mapping[str, Artifact],
) -> StageState:
    edges = graph.edges[name]
    recipe = graph.recipe
    known = {edge.field: artifacts[edge.reference] for edge in edges if edge.reference in artifacts}
    verdict = judge(directory / name, make_request(recipe.stages[name], recipe.stage_seed(name), known))
    waits = dict.fromkeys(edge.producer for edge in edges if states[edge.producer].state != "done")
    state, reason = "done", ""
    if not (directory / name).exists():
        state, reason = "not run", "never run"
    elif verdict.damaged or (verdict.reason is not None and len(known) == len(edges)):
        state, reason = "stale", verdict.reason or ""
    elif waits:
        state, reason = "stale", f"after {', '.join(waits)} (skipped if that comes out the same)"
    elif name in selection.forced:
        state, reason = "stale", "asked by --from"
    partial = partial_of(directory / name)
    if partial.exists() and state != "done":
        state, reason = "partial", f"{reason}; {_last_step(partial)}"
    inputs = tuple(dict.fromkeys(edge.reference for edge in edges))
    return StageState(
        name, recipe.stages[name].stage, inputs, state, reason, name in selection.stages, verdict.manifest
    )


def _last_step(partial: Path) -> str:
    journal = partial / JOURNAL
    rows = read_journal(journal) if journal.exists() else []
    return f"stopped after step {rows[-1]['step']}" if rows else "stopped before its first step"
