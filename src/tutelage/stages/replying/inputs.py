"""Inputs that several stages read in the same way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tutelage.errors import DataError
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.stage import Inputs
from tutelage.sources.practice.words import Words
from tutelage.sources.store import read_documents, read_jsonl
from tutelage.sources.tool_names import open_tools
from tutelage.stages.replying.settings import ToolUsingConfig
from tutelage.tools.toolbox import Toolbox

LEAST = 3  # times that a word must occur in a text: rarer ones are mostly errors


def conversations_of(inputs: Inputs, passes: Mapping[str, int] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of all `conversations` inputs, one artifact after the other, each with its `passes`: those of its
    artifact's name, else 1.
    """
    sets = [artifact for field, artifact in inputs.items() if field.split(".")[0] == "conversations"]
    for artifact in sets:
        times = (passes or {}).get(artifact.name, 1)
        drawn = artifact.type is ArtifactType.COMPLETIONS
        rows = ended_replies(artifact) if drawn else read_jsonl(artifact.path / "conversations.jsonl")
        yield from (row | {"passes": times} for row in rows)


def ended_replies(artifact: Artifact) -> Iterator[dict[str, Any]]:
    """Prompts with the replies that a model drew, as conversations: those of the replies that ended.

    DataError where tools were called: what they were is not written down.
    """
    for row in read_jsonl(artifact.path / "completions.jsonl"):
        if "turns" in row:
            raise DataError(
                f"{artifact.name}: reply {row['id']} was drawn with tools, whose definitions it has not",
                hint="sample without `tools`, or learn calls from a stage `tools`",
            )
        if row["finish_reason"] == "stop":
            reply = {"role": "assistant", "content": row["completion"]}
            yield {"id": row["id"], "messages": [*row["prompt"], reply]}


def words_of(inputs: Inputs) -> Words:
    """The words of the text `words`, beside which there are always made-up ones."""
    texts = read_documents(inputs["words"].path).column("text").to_pylist() if "words" in inputs else []
    return Words(texts, LEAST)


def tools_of(config: ToolUsingConfig, inputs: Inputs) -> Toolbox | None:
    """The tools that may be called, if there are any."""
    if not config.tools:
        return None
    return open_tools(config.tools, inputs["library"].path if "library" in inputs else None)
