"""Data sets of conversations made ready to train on: rendered, checked, counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.data.template import Rendered, render
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import DataError


@dataclass(frozen=True)
class RenderedSet:
    """The conversations that can be trained on, and how many cannot."""

    rows: list[Rendered]
    num_untrained: int  # dropped: nothing in them is trained on
    num_too_long: int  # dropped: longer than the context; a conversation is never cut
    longest: int  # tokens of the longest conversation, dropped or not
    passes: list[int]  # times that each of `rows` is to come in an epoch

    def notes(self, context: int) -> list[str]:
        """What was dropped and why, as sentences for a person."""
        notes = []
        if self.num_untrained:
            notes.append(f"{self.num_untrained} conversations have no assistant turn to learn from and were dropped")
        if self.num_too_long:
            notes.append(
                f"{self.num_too_long} conversations are longer than the context of {context} tokens and were dropped "
                f"(the longest has {self.longest})"
            )
        return notes


def render_set(tokenizer: TextTokenizer, conversations: Iterable[Mapping[str, Any]], context: int) -> RenderedSet:
    """Render rows `{messages, tools?, passes?}`; drop and count those without a trained token and those that are longer
    than `context` tokens.

    `DataError` if nothing is left, or if the end of turn would never be trained: such a model never stops.
    """
    rows: list[Rendered] = []
    passes: list[int] = []
    num_untrained = num_too_long = longest = 0
    for row in conversations:
        rendered = render(tokenizer, row["messages"], row.get("tools"))
        longest = max(longest, len(rendered.ids))
        if not any(rendered.loss_mask):
            num_untrained += 1
        elif len(rendered.ids) > context:
            num_too_long += 1
        else:
            rows.append(rendered)
            passes.append(row.get("passes", 1))
    if not rows and num_too_long:
        raise DataError(
            f"every conversation with something to learn is longer than the context of {context} tokens; "
            f"the longest of all has {longest}",
            hint=f"set the context to {longest} or more, or use shorter conversations",
        )
    check_trainable(tokenizer, rows)
    return RenderedSet(rows, num_untrained, num_too_long, longest, passes)


def check_trainable(tokenizer: TextTokenizer, rows: Sequence[Rendered]) -> None:
    """`DataError` unless some row trains a token, and some row trains the end of turn."""
    if not any(any(row.loss_mask) for row in rows):
        raise DataError(
            "no conversation has anything to learn from",
            hint="at least one message must have the role `assistant`; see `tutelage masks`",
        )
    end = tokenizer.end_of_turn_id
    if not any(learnt and token == end for row in rows for token, learnt in zip(row.ids, row.loss_mask, strict=True)):
        raise DataError(
            f"the end-of-turn token {tokenizer.token(end)!r} would never be trained, so the model would never stop",
            hint="the chat template must write it after each assistant message; see `tutelage masks`",
        )
