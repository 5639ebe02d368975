"""Atlas: write a small labelled web with conversations, prompts and held-out tasks. No input, no download."""

from __future__ import annotations

from tutelage.errors import RecipeError
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.atlas.atlas import build_atlas
from tutelage.sources.atlas.settings import AtlasSettings
from tutelage.sources.store import write_documents, write_jsonl
from tutelage.stages.configs import AtlasConfig


def run(config: AtlasConfig, inputs: Inputs, run: StageRun) -> None:
    """Generate the four outputs from the configuration and the seed."""
    if not any(config.styles.values()):
        raise RecipeError(
            f"{run.name}.styles: no style has a weight above zero", hint="give at least one, e.g. {terse: 1}"
        )
    atlas = build_atlas(AtlasSettings(**config.model_dump(exclude={"stage", "seed"})), run.seed)
    run.metrics["documents"] = write_documents(run.directory / "documents", atlas.documents)
    for name in ("conversations", "prompts", "tasks"):
        path = run.directory / name / f"{name}.jsonl"
        run.metrics[name] = write_jsonl(path, getattr(atlas, name))
    run.metrics["facts"] = len(atlas.facts)
    run.metrics["facts/held_out"] = sum(not fact.taught for fact in atlas.facts)
    run.metrics["documents/words"] = sum(len(row["text"].split()) for row in atlas.documents)
    run.metrics["documents/labelled"] = sum(bool(row["labels"]) for row in atlas.documents)
