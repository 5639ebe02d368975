"""Small real stages that write real files; run as a script they can be killed in the middle.

python toy_stages.py RECIPE RUN_DIR [key=value…]
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tutelage.errors import DataError
from tutelage.run.artifacts import ArtifactType, CorpusInput, DocumentsInput, ModelInput
from tutelage.run.config import StageConfig, Strict
from tutelage.run.execute import Outcome, run_recipe
from tutelage.run.recipe import read_recipe
from tutelage.run.stage import Inputs, StageRun, StageSpec


class GatherConfig(StageConfig):
    stage: Literal["gather"] = "gather"
    text: str = "one two three"
    path: str | None = None
    needs: str = ""
    lines: int = Field(3, ge=1)


def gather(config: GatherConfig, inputs: Inputs, run: StageRun) -> None:
    text = Path(config.path).read_text() if config.path else config.text
    (run.directory / "documents.txt").write_text(f"{text}\n" * config.lines)
    run.metrics["documents"] = config.lines


class CleanConfig(StageConfig):
    stage: Literal["clean"] = "clean"
    documents: DocumentsInput
    style: Literal["plain", "fancy"] = "plain"


def clean(config: CleanConfig, inputs: Inputs, run: StageRun) -> None:
    """Keeps the distinct lines: many inputs give the same bytes."""
    lines = (inputs["documents"].path / "documents.txt").read_text().splitlines()
    (run.directory / "corpus.txt").write_text("\n".join(sorted(set(lines))))
    if len(lines) > 1:
        run.notes.append(f"dropped {len(lines) - len(set(lines))} repeated lines")


class HalvesConfig(StageConfig):
    stage: Literal["halves"] = "halves"
    corpus: CorpusInput
    right: str = "right"


def halves(config: HalvesConfig, inputs: Inputs, run: StageRun) -> None:
    for name, text in (("left", "left"), ("right", config.right)):
        (run.directory / name).mkdir()
        (run.directory / name / "documents.txt").write_text(text)


class Shape(Strict):
    hidden_size: int = 8
    dropout: float | None = None


class TrainConfig(StageConfig):
    stage: Literal["train"] = "train"
    corpus: CorpusInput
    learning_rate: float = 3e-4
    steps: int = Field(4, gt=0)
    model: Shape = Shape()
    shuffle: bool = True
    pause: float = 0.0
    stop_at: int | None = None
    interrupt_at: int | None = None
    fill_from: int | None = None
    fill_path: str | None = None


def train(config: TrainConfig, inputs: Inputs, run: StageRun) -> None:
    """A chain of hashes stands for the weights; a checkpoint after every step."""
    checkpoint = run.scratch / "checkpoint.json"
    text = (inputs["corpus"].path / "corpus.txt").read_text()
    step, weights = 0, hashlib.sha256(f"{run.seed} {text} {config.learning_rate}".encode()).hexdigest()
    if checkpoint.exists():
        step, weights = json.loads(checkpoint.read_text())
        run.notes.append(f"resumed after step {step}")
    run.journal.rewind(step)
    with run.progress(run.name, config.steps) as bar:
        bar.advance(step)
        for now in range(step + 1, config.steps + 1):
            weights = hashlib.sha256(f"{weights} {now}".encode()).hexdigest()
            (run.directory / "half-written.tmp").write_text("left by a kill unless removed")
            run.journal.log(now, {"loss": 1 / now})  # before the checkpoint, as `fit` does: a kill may fall between
            beside = checkpoint.with_suffix(".tmp")
            beside.write_text(json.dumps([now, weights]))
            beside.replace(checkpoint)
            bar.advance(1, loss=1 / now)
            time.sleep(config.pause)
            if now == config.stop_at:
                raise DataError(f"stopped at step {now}", hint="toy")
            if now == config.interrupt_at:
                raise KeyboardInterrupt
            if now == config.fill_from:
                with Path(config.fill_path or run.directory / "huge.bin").open("wb") as file:
                    for _ in range(64):
                        file.write(b"x" * 65536)
    (run.directory / "half-written.tmp").unlink(missing_ok=True)
    (run.directory / "model.safetensors").write_text(weights)
    (run.directory / "config.json").write_text(config.model.model_dump_json())
    run.metrics["validation/loss"] = 1 / config.steps
    run.metrics["broken"] = float("nan")


class ShowConfig(StageConfig):
    stage: Literal["show"] = "show"
    models: dict[str, ModelInput]
    also: list[DocumentsInput] | None = None
    base: ModelInput | None = None


def show(config: ShowConfig, inputs: Inputs, run: StageRun) -> None:
    rows = {field: [artifact.name, artifact.fingerprint] for field, artifact in inputs.items()}
    (run.directory / "report.html").write_text(f"<pre>{json.dumps(rows, indent=1)}</pre>")


class SilentConfig(StageConfig):
    stage: Literal["silent"] = "silent"


def silent(config: SilentConfig, inputs: Inputs, run: StageRun) -> None:
    """Writes nothing: a bug of the stage, not of the user."""


A = ArtifactType
TOYS: dict[str, StageSpec] = {
    "gather": StageSpec(GatherConfig, {"": A.DOCUMENTS}, "Write lines of text."),
    "clean": StageSpec(CleanConfig, {"": A.CORPUS}, "Keep distinct lines."),
    "halves": StageSpec(HalvesConfig, {"left": A.DOCUMENTS, "right": A.DOCUMENTS}, "Give two artifacts."),
    "train": StageSpec(TrainConfig, {"": A.MODEL}, "Hash step by step."),
    "show": StageSpec(ShowConfig, {"": A.REPORT}, "List what came in."),
    "silent": StageSpec(SilentConfig, {"": A.REPORT}, "Write nothing."),
}
RUN: dict[str, Callable[[Any, Inputs, StageRun], None]] = {
    "gather": gather,
    "clean": clean,
    "halves": halves,
    "train": train,
    "show": show,
    "silent": silent,
}

RECIPE = """\
name: toy
seed: 1
stages:
  raw:    {stage: gather}
  corpus: {stage: clean, documents: raw}
  base:
    stage: train
    corpus: corpus
    model: {hidden_size: 16}
  report: {stage: show, models: {base: base}}
"""


def run_toy(run_dir: Path, *overrides: str, text: str = RECIPE, **options: Any) -> tuple[Outcome, list[str]]:
    """Run a recipe of toy stages; gives what was done and what was said."""
    said: list[str] = []
    recipe = read_recipe(text, "toy.yaml", TOYS, overrides)
    options = {"load": RUN.__getitem__, "say": said.append, **options}
    outcome = run_recipe(recipe, TOYS, run_dir=run_dir, **options)
    return outcome, said


def checksums(run_dir: Path) -> dict[str, str]:
    """Relative path → sha256 of every output of every published stage."""
    found = {}
    for manifest in sorted(run_dir.glob("*/manifest.json")):
        for output in json.loads(manifest.read_text())["outputs"]:
            found[f"{manifest.parent.name}/{output['path']}"] = output["sha256"]
    return found


if __name__ == "__main__":
    for sentence in run_toy(Path(sys.argv[2]), *sys.argv[3:], text=Path(sys.argv[1]).read_text())[1]:
        print(sentence)
