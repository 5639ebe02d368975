"""A run as the pages see it: its recipe's graph, the state of every stage, who runs it. Looked up, never written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from starlette.exceptions import HTTPException

from tutelage.run.folder import RUN_FILE, holder, saved_recipe
from tutelage.run.graph import Edge, Graph, build_graph, select
from tutelage.run.manifest import ATTEMPT, JOURNAL, MANIFEST
from tutelage.run.publish import partial_of
from tutelage.run.status import StageState, survey
from tutelage.web.site import Site

RUNNING = "running"
AGAIN = 30.0  # seconds after which checksums are compared again though nothing in the folder has changed

# State → the outline of its sign, in a square of 12 pixels; holes by the even-odd rule.
_RING = "M6 0a6 6 0 1 0 0 12a6 6 0 1 0 0-12z"
SIGNS = {
    "done": f"{_RING}M5 9L2.2 6.2l1-1L5 7l3.8-3.8l1 1z",
    RUNNING: "M2 0l9.5 6L2 12z",
    "partial": f"{_RING}M6 1.4a4.6 4.6 0 0 1 0 9.2z",
    "stale": "M6 .4L12 11.6H0zM5.3 4.4h1.4v3.8H5.3zM5.3 9.2h1.4v1.3H5.3z",
    "not run": f"{_RING}M6 1.4a4.6 4.6 0 1 1 0 9.2a4.6 4.6 0 1 1 0-9.2z",
}


@dataclass(frozen=True)
class Surveyed:
    """One run: `running` is the stage that a process works on, or ""."""

    folder: Path
    graph: Graph
    states: Mapping[str, StageState]
    pid: str
    running: str

    def state_of(self, stage: str) -> str:
        """A stage's state as a word: that of `tutelage status`, or `running`."""
        return RUNNING if stage == self.running else self.states[stage].state

    def stage(self, name: str) -> StageState:
        """A stage by its name, which is never joined to a path before it was found; 404 for any other."""
        if name not in self.states:
            raise HTTPException(404)
        return self.states[name]

    def place_of(self, stage: str) -> Path:
        """Where a stage's files are now: while it runs, where they are being written."""
        partial = partial_of(self.folder / stage)
        return partial if (partial / ATTEMPT).is_file() else self.folder / stage

    def used_by(self, stage: str) -> list[Edge]:
        """Who takes what from a stage: edges whose `producer` is the taker."""
        return [
            Edge(edge.field, name, edge.output, edge.type)
            for name in self.graph.order
            for edge in self.graph.edges[name]
            if edge.producer == stage
        ]


def runs_of(site: Site) -> dict[str, Path]:
    """The site's own run first, then those in the same folder."""
    if site.run is None:
        return {}
    beside = sorted(path.parent for path in site.run.resolve().parent.glob(f"*/{RUN_FILE}"))
    own = site.run.resolve()
    return {own.name: own} | {path.name: path for path in beside if path.name != own.name}


def run_of(site: Site, name: str) -> Path:
    """The site's run, or one beside it, by a name that is looked up and never joined to a path; 404 for any other."""
    known = runs_of(site)
    if not known or (name and name not in known):
        raise HTTPException(404)
    return known[name] if name else next(iter(known.values()))


def surveyed(site: Site, name: str) -> Surveyed:
    """The run of this name, or the site's own."""
    folder = run_of(site, name)
    pid = holder(folder)
    graph, found = _survey(site, folder, _stamp(folder, pid))
    begun = [(path.stat().st_mtime, path.parent.name) for path in folder.glob(f"*.partial/{ATTEMPT}")] if pid else []
    running = max(begun)[1].removesuffix(".partial") if begun else ""
    return Surveyed(folder, graph, found, pid, running if running in found else "")


@lru_cache(maxsize=8)
def _survey(site: Site, folder: Path, stamp: object) -> tuple[Graph, dict[str, StageState]]:
    """A survey reads every output again to compare checksums: once, until something changes, or a while has passed."""
    graph = build_graph(saved_recipe(folder, site.specs), site.specs)
    return graph, {state.name: state for state in survey(graph, folder, select(graph))}


def _stamp(folder: Path, pid: str) -> object:
    """What a survey depends on; while a process runs, its journal grows and says nothing new of the states."""
    journals = [] if pid else folder.glob(f"*.partial/{JOURNAL}")
    watched = sorted([*folder.iterdir(), *folder.glob(f"*/{MANIFEST}"), *journals])
    times = tuple(
        (str(path), path.stat().st_mtime_ns) for path in watched if path.exists() and path.suffix != ".sqlite"
    )
    return (pid, times, int(time.monotonic() / AGAIN))


def journal_of(run: Surveyed, stage: str) -> Path | None:
    """The journal of a stage that runs or was stopped, else that of the finished one."""
    found = (partial_of(run.folder / stage) / JOURNAL, run.folder / stage / JOURNAL)
    return next((path for path in found if path.is_file()), None)
