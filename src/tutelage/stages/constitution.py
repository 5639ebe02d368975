"""A constitution: files of principles → what replies are criticised by, what pairs of them are compared by, examples.

They are artifacts of their own: another wording of a question makes no revision stale, and a comment makes nothing so.
"""

from __future__ import annotations

from tutelage.constitutions.principles import conversations, critiques, questions
from tutelage.constitutions.reading import chosen, read_constitution
from tutelage.run.config import expanded
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import write_jsonl
from tutelage.stages.configs import ConstitutionConfig

FILE = "principles.jsonl"


def run(config: ConstitutionConfig, inputs: Inputs, run: StageRun) -> None:
    """Read and check all principles, keep those asked for, and write what each artifact needs of them."""
    paths = [config.path] if isinstance(config.path, str) else config.path
    principles = chosen(read_constitution([expanded(path) for path in paths]), config.principles)
    run.metrics["principles"] = len(principles)
    for name, rows in (("critiques", critiques(principles)), ("questions", questions(principles))):
        run.metrics[name] = write_jsonl(run.directory / name / FILE, rows)
    examples = conversations(principles)
    run.metrics["examples"] = write_jsonl(run.directory / "examples" / "conversations.jsonl", examples)
    without = [name for name, principle in principles.items() if principle.rule is None]
    if without:
        run.notes.append(f"{len(without)} principles have no rule and need a model as critic: {', '.join(without[:5])}")
