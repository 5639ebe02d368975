"""Execution: every stage of a recipe in order, skipping what is up to date and saying why when it is not."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tutelage.errors import ArtifactError, DataError, TutelageError
from tutelage.run import manifest as manifests
from tutelage.run.artifacts import Artifact
from tutelage.run.config import expanded
from tutelage.run.files import digest, short, write_atomic
from tutelage.run.folder import RECIPE_FILE, check_owner, claim, lock, run_directory
from tutelage.run.graph import Graph, Selection, artifact_name, build_graph, select
from tutelage.run.journal import Journal
from tutelage.run.machine import describe_hardware, machine_errors, package_versions, use_large_pages, use_threads
from tutelage.run.manifest import InputRecord, Manifest
from tutelage.run.memory import watch_memory
from tutelage.run.metrics import headline
from tutelage.run.progress import format_seconds, no_progress
from tutelage.run.publish import Attempt, begin, partial_of, publish, recover
from tutelage.run.recipe import Recipe, Specs
from tutelage.run.request import Request, Verdict, external_paths, judge, make_request, missing_paths
from tutelage.run.stage import Inputs, ProgressFactory, StageRun

StageFunction = Callable[[Any, Inputs, StageRun], None]


def load_stage(kind: str) -> StageFunction:
    """The function `run` of `tutelage.stages.<kind>`, imported now."""
    function: StageFunction = importlib.import_module(f"tutelage.stages.{kind}").run
    return function


@dataclass(frozen=True)
class Outcome:
    """What a run did: the stages that ran (in order) and those that were up to date."""

    directory: Path
    graph: Graph
    ran: tuple[str, ...]
    skipped: tuple[str, ...]
    seconds: float


def run_recipe(
    recipe: Recipe,
    specs: Specs,
    *,
    run_dir: Path | None = None,
    only: Collection[str] = (),
    start: Collection[str] = (),
    load: Callable[[str], StageFunction] = load_stage,
    progress: ProgressFactory = no_progress,
    say: Callable[[str], None] = lambda sentence: None,
) -> Outcome:
    """Run a recipe, or the part that `only` and `start` (`--from`) name; raises the tree of `tutelage.errors`."""
    graph = build_graph(recipe, specs)
    selection = select(graph, only, start)
    directory = run_directory(recipe, run_dir)
    began = time.monotonic()
    with machine_errors(directory):
        check_owner(directory, recipe)
        with lock(directory):
            session = Session(graph, directory, selection, load, progress, say)
            session.run()
    return Outcome(directory, graph, tuple(session.ran), tuple(session.skipped), time.monotonic() - began)


@dataclass
class Session:
    """One run of a recipe while it holds the lock of its folder."""

    graph: Graph
    directory: Path
    selection: Selection
    load: Callable[[str], StageFunction]
    progress: ProgressFactory
    say: Callable[[str], None]
    threads: int = 1
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def run(self) -> None:
        """All selected stages in order; what they take from outside the selection must be up to date."""
        for name in self.graph.order:
            if recover(self.directory / name):
                self.say(f"! {name}: finished a publication that was interrupted")
        self._check_data()
        self.threads, note = claim(self.directory, self.graph.recipe)
        if note:
            self.say(f"! {note}")
        use_threads(self.threads)
        use_large_pages()
        write_atomic(self.directory / RECIPE_FILE, self.graph.recipe.to_yaml())
        for name in self.graph.order:
            if name in self.selection.stages:
                self._advance(name)
            elif name in self._needed():
                self._require(name)

    def _needed(self) -> set[str]:
        return self.graph.with_ancestors(self.selection.stages)

    def _check_data(self) -> None:
        """Say what data is missing before anything runs: an hour later is too late."""
        recipe = self.graph.recipe
        # A published stage is judged when its turn comes: raw data may be deleted after it was read.
        new = [name for name in self.selection.stages if not (self.directory / name).exists()]
        missing = [
            (name, *found) for name in self.graph.order if name in new for found in missing_paths(recipe.stages[name])
        ]
        self._refuse_missing(missing)

    def _refuse_missing(self, missing: list[tuple[str, str, str]]) -> None:
        if not missing:
            return
        recipe = self.graph.recipe
        lines = [
            f"{recipe.where('stages', stage, *field.split('.'))}: {_what_is_missing(path)}: {path}"
            for stage, field, path in missing
        ]
        stage, field, _ = missing[0]
        own = [str(getattr(recipe.stages[name], "needs", "")) for name, _, _ in missing]
        how = [
            *recipe.needs,
            *dict.fromkeys(text for text in own if text),
            f"or point the recipe elsewhere: {stage}.{field}=PATH",
        ]
        raise DataError("\n".join(lines), hint="\n    ".join(how))

    def judge(self, name: str) -> Verdict:
        """Is the published stage what the recipe asks for, given the inputs as they are now?"""
        recipe = self.graph.recipe
        inputs = {edge.field: self.artifacts[edge.reference] for edge in self.graph.edges[name]}
        request = make_request(recipe.stages[name], recipe.stage_seed(name), inputs)
        return judge(self.directory / name, request)

    def _require(self, name: str) -> None:
        verdict = self.judge(name)
        if verdict.reason is not None:
            what = "damaged" if verdict.damaged else "not up to date"
            raise ArtifactError(
                f"stage {name} is {what}, and a selected stage needs it: {verdict.reason}",
                hint=f"run the whole recipe, or add --only {name}",
            )
        self._accept(name, verdict.manifest)

    def _advance(self, name: str) -> None:
        verdict = self.judge(name)
        if verdict.reason is None and name not in self.selection.forced:
            self.say(f"· {name}: up to date")
            self.skipped.append(name)
            self._accept(name, verdict.manifest)
            return
        paths = dict(external_paths(dict(verdict.request.config)))
        self._refuse_missing([(name, field, paths[field]) for field in verdict.missing_data])
        manifest = self._run_stage(name, verdict.request, verdict.reason or "asked by --from")
        self.ran.append(name)
        self._accept(name, manifest)

    def _accept(self, name: str, manifest: Manifest | None) -> None:
        assert manifest is not None
        for output in self.graph.outputs(name):
            self.artifacts[artifact_name(name, output)] = manifest.artifact(self.directory / name, output)

    def _run_stage(self, name: str, request: Request, reason: str) -> Manifest:
        attempt = begin(self.directory / name, digest([request.key, self.threads]))
        resumed = " (goes on from its last checkpoint)" if attempt.resumed else ""
        self.say(f"▶ {name} ({request.stage}): {reason}{resumed}")
        run = StageRun(
            name=name,
            seed=request.seed,
            directory=attempt.partial,
            scratch=attempt.scratch,
            journal=Journal(attempt.journal),
            progress=self.progress,
            threads=self.threads,
            say=self.say,
        )
        peak, started, began = watch_memory(), _now(), time.monotonic()
        try:
            function = self.load(request.stage)
            use_threads(self.threads)  # again: torch may have been imported only now
            function(self.graph.recipe.stages[name], request.inputs, run)
            seconds = time.monotonic() - began
            manifest = self._manifest(run, request, attempt, started, seconds, peak())
            publish(self.directory / name, manifest)
        except KeyboardInterrupt:
            self._say_interrupted(name)
            raise
        except TutelageError:
            self.say(f"✗ {name} stopped after {format_seconds(time.monotonic() - began)}; finished stages are kept")
            raise
        shown = "  ".join(headline(manifest.metrics, 3))
        self.say(f"✓ {name}  {format_seconds(seconds)}  {short(manifest.fingerprint)}  {shown}".rstrip())
        for note in manifest.notes:
            self.say(f"  ! {note}")
        return manifest

    def _manifest(
        self, run: StageRun, request: Request, attempt: Attempt, started: str, seconds: float, peak: int | None
    ) -> Manifest:
        spec = self.graph.specs[request.stage]
        outputs = manifests.measure_outputs(attempt.partial)
        place = self.directory / run.name
        return Manifest(
            name=run.name,
            stage=request.stage,
            key=request.key,
            config=dict(request.config),
            seed=request.seed,
            inputs={
                name: InputRecord(
                    artifact=artifact.name,
                    fingerprint=artifact.fingerprint,
                    path=Path(os.path.relpath(artifact.path, place)).as_posix(),
                )
                for name, artifact in request.inputs.items()
            },
            data={name: found for name, found in request.data.items() if found is not None},
            fingerprint=digest([[output.path, output.sha256] for output in outputs]),
            artifacts=manifests.artifact_records(run.name, spec.outputs, outputs),
            metrics=manifests.json_metrics(run.metrics),
            notes=run.notes,
            outputs=outputs,
            started=started,
            finished=_now(),
            seconds=round(seconds, 3),
            attempts=attempt.number,
            versions=package_versions(),
            host=os.uname().nodename,
            threads=self.threads,
            hardware=describe_hardware(),
            records_time=spec.records_time,
            peak_memory=peak,
        )

    def _say_interrupted(self, name: str) -> None:
        kept = [stage for stage in self.graph.order if (self.directory / stage).exists()]
        scratch = partial_of(self.directory / name) / manifests.SCRATCH
        resumes = scratch.exists() and any(scratch.iterdir())
        goes_on = "goes on from its last checkpoint" if resumes else "begins again"
        self.say(f"\n! interrupted in {name}. Kept: {', '.join(kept) or 'no stage yet'}.")
        self.say(f"! Run the same command to go on; {name} {goes_on}.")


def _what_is_missing(path: str) -> str:
    return "the folder holds no files" if expanded(path).is_dir() else "no such file or folder"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
