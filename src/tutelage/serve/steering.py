"""What a request says about single tokens: biases, penalties, and the grammar of a `response_format`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import DataError
from tutelage.generation import guidance
from tutelage.generation.request import Steering
from tutelage.serve.refusal import invalid


class Bias:
    """Adds to the logits of single tokens."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        self._ids, self._values = torch.tensor(list(bias)), torch.tensor(list(bias.values()))

    def steer(self, logits_V: Tensor) -> Tensor:
        """See Steering."""
        return logits_V.index_add(0, self._ids, self._values.to(logits_V.dtype))

    def push(self, token_id: int) -> None:
        """It does not matter."""


class Penalties:
    """Subtracts, from the logits of tokens that the reply has, `presence`, and `frequency` for each time."""

    def __init__(self, presence: float, frequency: float) -> None:
        self._presence, self._frequency, self._counts = presence, frequency, dict[int, int]()

    def steer(self, logits_V: Tensor) -> Tensor:
        """See Steering."""
        if not self._counts:
            return logits_V
        amounts = [self._presence + self._frequency * count for count in self._counts.values()]
        return logits_V.index_add(0, torch.tensor(list(self._counts)), -torch.tensor(amounts, dtype=logits_V.dtype))

    def push(self, token_id: int) -> None:
        """Count it."""
        self._counts[token_id] = self._counts.get(token_id, 0) + 1


class Together:
    """Several, one after the other."""

    def __init__(self, parts: Sequence[Steering]) -> None:
        self._parts = parts

    def steer(self, logits_V: Tensor) -> Tensor:
        """See Steering."""
        for part in self._parts:
            logits_V = part.steer(logits_V)
        return logits_V

    def push(self, token_id: int) -> None:
        """All hear it."""
        for part in self._parts:
            part.push(token_id)


def format_grammar(response_format: Mapping[str, Any]) -> str | None:
    """The grammar of `response_format`; None for text. RefusalError for one that is not known."""
    kind = response_format.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return schema_grammar({"type": "object"}, "response_format")
    if kind != "json_schema":
        raise invalid(f"response_format is {kind!r:.80}; known: text, json_object, json_schema", "response_format")
    stated = response_format.get("json_schema")
    schema = stated.get("schema") if isinstance(stated, dict) else None
    if not isinstance(schema, dict):
        raise invalid("response_format.json_schema has no `schema`", "response_format.json_schema.schema")
    return schema_grammar(schema, "response_format.json_schema.schema")


def schema_grammar(schema: Mapping[str, Any], param: str) -> str:
    """A JSON Schema as a grammar. RefusalError, naming the field, for a schema that cannot be followed."""
    with refused(param):
        return guidance.schema_grammar(schema)


@contextmanager
def refused(param: str) -> Iterator[None]:
    """What guidance cannot do is said of the field that asked for it."""
    try:
        yield
    except DataError as error:
        raise invalid(f"{param} {error.message}; {error.hint}", param) from error
