"""Inputs that several stages read in the same way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tutelage.data.completions import is_whole, spoken
from tutelage.errors import DataError
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.stage import Inputs
from tutelage.sources.practice.words import Words
from tutelage.sources.store import read_documents, read_jsonl
from tutelage.sources.tool_names import open_tools
from tutelage.stages.replying.settings import ToolUsingConfig
from tutelage.tools.toolbox import Toolbox

LEAST = 3  # times that a word must occur in a text: rarer ones are mostly errors


def conversations_of(
    inputs: Inputs, passes: Mapping[str, int] | None = None, notes: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of all `conversations` inputs, one artifact after the other, each with its `passes`: those of its
    artifact's name, else 1. `notes` tells of replies left out.
    """
    sets = [artifact for field, artifact in inputs.items() if field.split(".")[0] == "conversations"]
    for artifact in sets:
        times = (passes or {}).get(artifact.name, 1)
        drawn = artifact.type is ArtifactType.COMPLETIONS
        rows = ended_replies(artifact, notes) if drawn else read_jsonl(artifact.path / "conversations.jsonl")
        yield from (row | {"passes": times} for row in rows)


def ended_replies(artifact: Artifact, notes: list[str] | None = None) -> list[dict[str, Any]]:
    """Prompts with the replies that a model drew, as conversations: of the replies that ended and say something.

    DataError if there are none, or where they were drawn with tools: the definitions of these are not written down.
    """
    found: list[dict[str, Any]] = []
    reasons: Counter[str] = Counter()
    for row in read_jsonl(artifact.path / "completions.jsonl"):
        if "turns" in row:
            raise DataError(
                f"{artifact.name}: reply {row['id']} was drawn with tools, whose definitions it has not",
                hint="sample without `tools`, or learn calls from a stage `tools`",
            )
        reasons[str(row["finish_reason"])] += 1
        if is_whole(row):
            found.append({"id": row["id"], "messages": spoken(row)})
    if not found:
        told = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
        raise DataError(
            f"{artifact.name}: of {reasons.total()} replies none ended and says something (finish_reason: {told})",
            hint="a reply has ended if its finish_reason is stop: raise max_tokens of the stage that draws them",
        )
    if notes is not None and len(found) < reasons.total():
        notes.append(
            f"{artifact.name}: {reasons.total() - len(found)} replies are empty or did not end, and are left out"
        )
    return found


def words_of(inputs: Inputs) -> Words:
    """The words of the text `words`, beside which there are always made-up ones."""
    texts = read_documents(inputs["words"].path).column("text").to_pylist() if "words" in inputs else []
    return Words(texts, LEAST)


def tools_of(config: ToolUsingConfig, inputs: Inputs) -> Toolbox | None:
    """The tools that may be called, if there are any."""
    if not config.tools:
        return None
    return open_tools(config.tools, inputs["library"].path if "library" in inputs else None)
