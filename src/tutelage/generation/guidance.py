"""Grammars that a reply must follow (llguidance), and tool calls that can only be what the tools take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import copy
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import llguidance
import numpy as np
import torch
from torch import Tensor

from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import DataError
from tutelage.tools.toolbox import NO_ARGUMENTS

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

# as models learnt to write
FORM: JsonCompileOptions = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Grammar:
    """Rules out every token with which the text could not become what the grammar allows (llguidance).

    Raises DataError for a grammar that cannot be followed, or a tokenizer that is not byte-level.
    """

    def __init__(self, tokenizer: TextTokenizer, grammar: str) -> None:
        self._end = tokenizer.end_of_turn_id
        self._matcher = llguidance.LLMatcher(_guide(tokenizer), grammar, log_level=0)
        if self._matcher.is_error():
            raise DataError(f"cannot be honoured: {self._matcher.get_error():.500}", hint="simplify the schema")

    @property
    def is_whole(self) -> bool:
        """Whether the text could end here."""
        return self._over or self._matcher.is_accepting()

    @property
    def _over(self) -> bool:
        return self._matcher.is_error() or self._matcher.is_stopped()

    def allowed(self, vocab_size: int) -> Tensor:
        """[V] bool: what may come next. Once the text is whole, or the grammar has given up, the end of the turn."""
        allowed_V = torch.zeros(vocab_size, dtype=torch.bool)
        if not self._over:
            bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
            mask = torch.from_numpy(np.unpackbits(bits, bitorder="little")[:vocab_size].astype(bool))
            allowed_V[: len(mask)] = mask
        if not bool(allowed_V.any()):
            allowed_V[self._end] = True
        return allowed_V

    def begin(self) -> Grammar:
        """The same grammar with nothing written yet, if this one has nothing written: it is not compiled again."""
        other = copy(self)
        other._matcher = self._matcher.deep_copy()
        return other

    def steer(self, logits_V: Tensor) -> Tensor:
        """See Steering."""
        return logits_V.masked_fill(~self.allowed(len(logits_V)), float("-inf"))

    def push(self, token_id: int) -> None:
        """Go on in the grammar."""
        if not self._over:
            self._matcher.consume_token(token_id)


class GuidedCalls:
    """After the token that begins a call, only a call of one of the tools, with arguments that its schema takes; then
    another call, or the end of the turn. Whether to call at all is left to the model.

    Raises DataError where that cannot be done: see Grammar, and templates that write calls as text.
    """

    def __init__(self, tokenizer: TextTokenizer, tools: Sequence[Mapping[str, Any]]) -> None:
        begin = tokenizer.begin_call_id
        if begin is None:
            raise DataError("the chat template writes calls as text", hint="calls are guided where a token begins them")
        self._begin = begin
        self._grammar = Grammar(tokenizer, schema_grammar(calls_schema(tools)))
        self._call: Grammar | None = None

    def steer(self, logits_V: Tensor) -> Tensor:
        """See Steering."""
        if self._call is None:
            return logits_V
        allowed_V = self._call.allowed(len(logits_V))
        if self._call.is_whole:
            allowed_V[self._begin] = True
        return logits_V.masked_fill(~allowed_V, float("-inf"))

    def push(self, token_id: int) -> None:
        """Begin a call, or go on in it."""
        if token_id == self._begin:
            self._call = self._grammar.begin()
        elif self._call is not None:
            self._call.push(token_id)


def guided_calls(tokenizer: TextTokenizer, tools: Sequence[Mapping[str, Any]]) -> GuidedCalls | None:
    """Guidance of calls where it can be had; None where there are no tools, or none that can be guided.

    Nobody asks for it by name: without it calls are read, mended or shown as the model writes them.
    """
    try:
        return GuidedCalls(tokenizer, tools) if tools else None
    except DataError:
        return None


def calls_schema(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One call of any of the tools, as JSON Schema. Arguments that a schema does not name are not taken."""
    functions = [tool.get("function", tool) for tool in tools]
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": function["name"]}, "arguments": _named_only(function.get("parameters"))},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for function in functions
    ]
    return {"x-guidance": FORM, "anyOf": calls}


def schema_grammar(schema: Mapping[str, Any]) -> str:
    """A JSON Schema as a grammar, written as `json.dumps` does. DataError for a schema that it cannot follow."""
    try:
        grammar: str = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=FORM)
    except ValueError as error:
        raise DataError(f"cannot be honoured: {error}", hint="simplify the schema") from error
    return grammar


def _named_only(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"additionalProperties": False, **(parameters or NO_ARGUMENTS)}


@lru_cache(maxsize=8)
def _guide(tokenizer: TextTokenizer) -> llguidance.LLTokenizer:
    if not tokenizer.is_byte_level:
        raise DataError(
            "cannot be honoured: this model's tokenizer is of a kind that grammars do not know",
            hint="byte-level ones are",
        )
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
