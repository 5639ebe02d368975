"""A reply with tool calls: its tokens taken apart, and the turns that answer it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, takewhile

from tutelage.data.template import render
from tutelage.data.tokenizer import TextTokenizer
from tutelage.tools.calls import BadCall, ToolCall, parse_call
from tutelage.tools.text_form import read_calls


def read_reply(tokenizer: TextTokenizer, ids: Sequence[int]) -> tuple[str, list[ToolCall | BadCall]]:
    """What a reply says, and what it calls, in order.

    Where the template has a token that begins a call, no text is taken for one.
    """
    ids = list(takewhile(lambda token_id: token_id not in tokenizer.stop_ids, ids))
    if tokenizer.begin_call_id is None:
        return read_calls(tokenizer.decode(ids))
    starts = [place for place, token_id in enumerate(ids) if token_id == tokenizer.begin_call_id]
    bounds = [*starts, len(ids)]
    texts = [tokenizer.decode(ids[start + 1 : end]) for start, end in pairwise(bounds)]
    content = tokenizer.decode(ids[: bounds[0]])
    return content, [parse_call(text) for text in texts]


def answering_ids(tokenizer: TextTokenizer, results: Sequence[str]) -> list[int]:
    """Token ids from the end of a turn that calls to where the assistant goes on: the results, in the calls' order."""
    before = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]
    turns = [{"role": "tool", "content": result} for result in results]
    called = render(tokenizer, before)
    after_turn = len(called.loss_mask) - called.loss_mask[::-1].index(True)
    return render(tokenizer, [*before, *turns], add_generation_prompt=True).ids[after_turn:]
