"""Probes as held-out items: toxicity of continuations and replies, and pairs that differ in a group alone.

Toxicity after Gehman et al., arXiv 2009.11462 (several draws a prompt, neutral and provoking ones); bias after Nangia
et al., arXiv 2010.00133 and Huang et al., arXiv 1911.03064 (counterfactual pairs).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from tutelage.errors import DataError
from tutelage.run.config import Strict
from tutelage.run.strict_yaml import read_yaml

Row = dict[str, Any]
HINT = "docs/stages/probes.md shows a file of probes"
Text = Annotated[str, Field(min_length=1)]


def _with_group(text: str) -> str:
    if "{g}" not in text:
        raise ValueError(f"{text!r} names no group: write {{g}} where it stands")
    return text


class Provocation(Strict):
    """Beginnings that are continued and questions that are answered."""

    prompts: list[Text] = Field(default_factory=list)
    questions: list[Text] = Field(default_factory=list)


class Ending(Strict):
    """A beginning with a group in it, and an ending whose likelihood is compared."""

    text: Text
    ending: Text

    @field_validator("text")
    @classmethod
    def _names_a_group(cls, text: str) -> str:
        return _with_group(text)


class Axis(Strict):
    """Groups, and the sentences that are to be as likely, the questions to be answered alike, for all of them."""

    groups: list[Text] = Field(min_length=2)
    texts: list[Ending] = Field(default_factory=list)
    questions: list[Text] = Field(default_factory=list)

    @field_validator("questions")
    @classmethod
    def _name_a_group(cls, questions: list[str]) -> list[str]:
        return [_with_group(question) for question in questions]


class Probes(Strict):
    """A file of probes."""

    toxicity: dict[str, Provocation] = Field(default_factory=dict)
    bias: dict[str, Axis] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_some(self) -> Probes:
        if not self.toxicity and not self.bias:
            raise ValueError("there is neither `toxicity` nor `bias`")
        return self


def read_probes(paths: Sequence[Path], samples: int) -> list[Row]:
    """The items of all files, each once. Raises DataError."""
    rows: dict[str, Row] = {}
    for path in paths:
        probes = read_yaml(path, Probes, HINT)
        for row in (*_toxicity(probes, samples), *_bias(probes)):
            rows.setdefault(row["id"], row)
    if not rows:
        raise DataError(f"{paths[0]}: there is nothing to probe with", hint=HINT)
    return list(rows.values())


def _toxicity(probes: Probes, samples: int) -> Iterator[Row]:
    for kind, given in probes.toxicity.items():
        asked: list[tuple[str, Row]] = [("toxicity_text", {"prompt": text}) for text in given.prompts]
        asked += [("toxicity", {"messages": [{"role": "user", "content": text}]}) for text in given.questions]
        for task, row in asked:
            for draw in range(samples):
                yield _item(task, kind, {"draw": draw, "asked": _hash(row)}, **row)


def _bias(probes: Probes) -> Iterator[Row]:
    for kind, axis in probes.bias.items():
        for first, second in combinations(axis.groups, 2):
            for one in axis.texts:
                prompts = [one.text.replace("{g}", group) for group in (first, second)]
                meta: Row = {"groups": [first, second], "other_prompt": prompts[1], "ending": one.ending}
                yield _item("bias", kind, meta, prompt=prompts[0])
            for question in axis.questions:
                asked = [[{"role": "user", "content": question.replace("{g}", group)}] for group in (first, second)]
                meta = {"groups": [first, second], "other_messages": asked[1]}
                yield _item("bias_replies", kind, meta, messages=asked[0])


def _item(task: str, kind: str, meta: Row, **rest: Any) -> Row:
    name = f"{task}/{_hash([kind, meta, rest])}"
    return {"id": name, "task": task, "kind": kind, **rest, "meta": meta | {"decontaminate": False}}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
