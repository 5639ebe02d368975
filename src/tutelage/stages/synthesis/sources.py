"""What rows are made from: passages of documents, topics, problems, instructions to begin with."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from tutelage.errors import DataError
from tutelage.run.artifacts import Artifact
from tutelage.run.stage import Inputs
from tutelage.sources.store import read_documents, read_jsonl
from tutelage.stages.configs import SynthesizeConfig
from tutelage.stages.synthesis.drafts import Parent
from tutelage.stages.synthesis.text import windows
from tutelage.tools.verifiers import final_answer

FEWEST_WORDS = 4  # of a passage
Row = Mapping[str, Any]


def parents_of(config: SynthesizeConfig, inputs: Inputs, seed: int) -> list[Parent]:
    """All of them in a seeded order; DataError if there are none."""
    if config.topics:
        found = [Parent(topic, topic) for topic in config.topics]
    else:
        field = next(field for field in READ if field in inputs)
        found = READ[field](config, inputs[field])
        if not found:
            raise DataError(f"{inputs[field].name} has nothing to make rows from", hint="look at the stage before")
    random.Random(f"{seed}/parents").shuffle(found)
    return found


def _passages(config: SynthesizeConfig, documents: Artifact) -> list[Parent]:
    """Whole sentences of prose; the passages of a document are numbered."""
    rows = read_documents(documents.path).to_pylist()
    wanted = [row for row in rows if row["format"] != "code" and (config.language in (None, row["language"]))]
    return [
        Parent(f"{row['id']}/{place}", text, {"url": row["url"]})
        for row in wanted
        for place, text in enumerate(windows(row["text"], config.passage_words))
        if len(text.split()) >= FEWEST_WORDS
    ]


def _problems(config: SynthesizeConfig, problems: Artifact) -> list[Parent]:
    """Prompts of one message, with the answer or else a reference solution that ends with it."""
    found = []
    for row in read_jsonl(problems.path / "prompts.jsonl"):
        known = row.get("answer") or final_answer(str(row.get("meta", {}).get("reference") or ""))
        if not known and set(config.verify) & {"answer", "python"}:
            raise DataError(
                f"{problems.name}: problem {row['id']} has no answer to compare with",
                hint="give it an `answer`, or leave answer and python out of `verify`",
            )
        found.append(Parent(str(row["id"]), str(row["messages"][-1]["content"]), {"answer": known}))
    return found


def _seeds(config: SynthesizeConfig, seeds: Artifact) -> list[Parent]:
    """One parent: the whole pool is what a new instruction comes from."""
    return [Parent(seeds.name, "")] if instructions_of(seeds) else []


def instructions_of(seeds: Artifact) -> list[str]:
    """The first thing that is asked in each conversation, each once."""
    asked = (
        next((str(message["content"]) for message in row["messages"] if message["role"] == "user"), "")
        for row in read_jsonl(seeds.path / "conversations.jsonl")
    )
    return list(dict.fromkeys(text for text in asked if text))


READ: Mapping[str, Callable[[SynthesizeConfig, Artifact], list[Parent]]] = {
    "documents": _passages,
    "problems": _problems,
    "seeds": _seeds,
}
