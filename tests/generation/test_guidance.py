from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tiny import model, tokenizer
from tutelage.data.completions import prompt_ids
from tutelage.data.tokenizer import TextTokenizer
from tutelage.data.tool_calls import read_reply
from tutelage.errors import DataError
from tutelage.generation.engine import Engine, Request
from tutelage.generation.guidance import Grammar, GuidedCalls, guided_calls, schema_grammar
from tutelage.generation.sampling import Sampling
from tutelage.tools.calls import ToolCall
from tutelage.tools.toolbox import definition_of, settle

TOKENIZER = tokenizer()
BEGIN, END = TOKENIZER.begin_call_id or -1, TOKENIZER.end_of_turn_id


def tool(name: str, required: list[str], **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [
    tool(
        "book_room", ["city"], city={"enum": ["Rome", "Lima"]}, nights={"type": "integer", "minimum": 1, "maximum": 9}
    ),
    tool("book_boat", ["who"], who={"type": "boolean"}),
    tool("now", []),
]


class CallsFirst:
    """Begins with a call; what comes then is guided, or not."""

    def __init__(self, guided: GuidedCalls | None) -> None:
        self._guided, self._drawn = guided, 0

    def steer(self, logits_V: Tensor) -> Tensor:
        if self._drawn == 0:
            return torch.full_like(logits_V, float("-inf")).index_fill(0, torch.tensor([BEGIN]), 0.0)
        return logits_V if self._guided is None else self._guided.steer(logits_V)

    def push(self, token_id: int) -> None:
        self._drawn += 1
        if self._guided is not None:
            self._guided.push(token_id)


def drawn(guide: bool, count: int = 24) -> list[list[int]]:
    engine = Engine(model(max_position_embeddings=320), TOKENIZER.stop_ids, TOKENIZER.pad_id, 8)
    prompt = prompt_ids(TOKENIZER, [{"role": "user", "content": "Book it."}], TOOLS)
    requests = [
        Request(prompt, Sampling(200), seed, steering=CallsFirst(GuidedCalls(TOKENIZER, TOOLS) if guide else None))
        for seed in range(count)
    ]
    return [reply.ids for reply in engine.generate(requests)]


def test_whatever_the_weights_say_a_guided_call_is_one_of_a_tool_that_is_there() -> None:
    offered = [definition_of(one) for one in TOOLS]
    names = set()
    for ids in drawn(guide=True):
        _, calls = read_reply(TOKENIZER, ids)
        whole = calls if ids[-1] == END else calls[:-1]  # another call may have begun where the room ended
        assert whole
        for call in whole:
            assert isinstance(call, ToolCall)
            assert settle(call, offered) == call  # nothing was mended
            names.add(call.name)
    assert names == {"book_room", "book_boat", "now"}


def test_without_guidance_the_same_weights_write_no_call() -> None:
    assert not any(
        isinstance(call, ToolCall) for ids in drawn(guide=False, count=6) for call in read_reply(TOKENIZER, ids)[1]
    )


def test_text_before_a_call_is_left_alone() -> None:
    guided = GuidedCalls(TOKENIZER, TOOLS)
    logits_V = torch.randn(300)
    for token_id in TOKENIZER.encode("Well, let me see"):
        assert guided.steer(logits_V) is logits_V
        guided.push(token_id)
    guided.push(BEGIN)
    assert int(guided.steer(logits_V).isfinite().sum()) < 5
    for token_id in TOKENIZER.encode(ToolCall("now", {}).text):
        assert guided.steer(logits_V)[token_id].isfinite()
        guided.push(token_id)
    assert guided.steer(logits_V).isfinite().nonzero().flatten().tolist() == sorted({END, BEGIN})


@pytest.mark.parametrize(
    ("tools", "reason"), [([tool("f", [], x={"type": "string", "pattern": "("})], "cannot be honoured")]
)
def test_what_cannot_be_guided_is_said_or_left_alone(tools: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        GuidedCalls(TOKENIZER, tools)
    assert guided_calls(TOKENIZER, tools) is None
    assert guided_calls(TOKENIZER, []) is None


def test_a_template_that_writes_calls_as_text_is_not_guided() -> None:
    other = TextTokenizer(
        TOKENIZER._json, {**TOKENIZER._config, "chat_template": "{{ messages[0]['content'] }}<|end|>"}
    )
    assert other.begin_call_id is None
    assert guided_calls(other, TOOLS) is None


def test_a_grammar_ends_where_the_text_is_whole() -> None:
    grammar = Grammar(TOKENIZER, schema_grammar({"enum": [7]}))
    assert not grammar.is_whole
    for token_id in TOKENIZER.encode("7"):
        assert grammar.allowed(300)[token_id]
        grammar.push(token_id)
    assert grammar.is_whole
    assert set(grammar.allowed(300).nonzero().flatten().tolist()) <= set(TOKENIZER.stop_ids)
