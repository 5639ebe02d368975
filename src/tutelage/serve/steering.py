"""What a request says about single tokens: biases, penalties, and a grammar that the reply must follow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import llguidance
import numpy as np
import torch
from torch import Tensor

from tutelage.data.tokenizer import TextTokenizer
from tutelage.generation.request import Steering
from tutelage.serve.refusal import invalid

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

# as models learnt to write
FORM: JsonCompileOptions = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


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


class Grammar:
    """Rules out every token with which the text could not become what the grammar allows (llguidance)."""

    def __init__(self, tokenizer: TextTokenizer, grammar: str, param: str) -> None:
        self._end = tokenizer.end_of_turn_id
        self._matcher = llguidance.LLMatcher(_guide(tokenizer), grammar, log_level=0)
        if self._matcher.is_error():
            raise invalid(f"{param} cannot be honoured: {self._matcher.get_error():.500}", param)

    def steer(self, logits_V: Tensor) -> Tensor:
        """See Steering. Once the text is whole, or the grammar has given up, only the end of the turn is left."""
        allowed_V = torch.zeros(len(logits_V), dtype=torch.bool)
        if not (self._matcher.is_error() or self._matcher.is_stopped()):
            bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
            mask = torch.from_numpy(np.unpackbits(bits, bitorder="little")[: len(logits_V)].astype(bool))
            allowed_V[: len(mask)] = mask
        if not bool(allowed_V.any()):
            allowed_V[self._end] = True
        return logits_V.masked_fill(~allowed_V, float("-inf"))

    def push(self, token_id: int) -> None:
        """Go on in the grammar."""
        if not (self._matcher.is_error() or self._matcher.is_stopped()):
            self._matcher.consume_token(token_id)


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
    """A JSON Schema as a grammar, written as `json.dumps` does. RefusalError for a schema that it cannot follow."""
    try:
        grammar: str = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=FORM)
    except ValueError as error:
        raise invalid(f"{param} cannot be honoured: {error}", param) from error
    return grammar


@lru_cache(maxsize=8)
def _guide(tokenizer: TextTokenizer) -> llguidance.LLTokenizer:
    if not tokenizer.is_byte_level:
        raise invalid("this model's tokenizer is of a kind that grammars do not know (byte-level ones are)", None)
    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes(tokenizer)), eos_token=list(tokenizer.stop_ids))


class _Bytes:
    """A tokenizer as llguidance asks for it."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.eos_token_id, self.bos_token_id = tokenizer.end_of_turn_id, tokenizer.bos_id
        self.tokens = tokenizer.token_bytes
        self.special_token_ids = sorted(tokenizer.special_ids)
        self._encode = tokenizer.encode

    def __call__(self, text: str) -> list[int]:
        return self._encode(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)
