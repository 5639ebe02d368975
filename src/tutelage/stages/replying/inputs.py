"""Inputs that several stages read in the same way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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
        yield from (row | {"passes": times} for row in read_jsonl(artifact.path / "conversations.jsonl"))


def words_of(inputs: Inputs) -> Words:
    """The words of the text `words`, beside which there are always made-up ones."""
    texts = read_documents(inputs["words"].path).column("text").to_pylist() if "words" in inputs else []
    return Words(texts, LEAST)


def tools_of(config: ToolUsingConfig, inputs: Inputs) -> Toolbox | None:
    """The tools that may be called, if there are any."""
    if not config.tools:
        return None
    return open_tools(config.tools, inputs["library"].path if "library" in inputs else None)
