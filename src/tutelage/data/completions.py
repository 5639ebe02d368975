"""Prompts with a completion each, as padded batches: what reward models, DPO and PPO train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.data.batches import Batch, make_batch
from tutelage.data.packing import lay_rows
from tutelage.data.template import render
from tutelage.data.tokenizer import TextTokenizer

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Completion:
    """A rendered prompt followed by a completion; the completion's tokens include the end of turn if it `ended`."""

    ids: list[int]
    num_prompt: int

    @property
    def loss_mask(self) -> list[bool]:
        """True on the completion's tokens."""
        return [index >= self.num_prompt for index in range(len(self.ids))]


def prompt_ids(tokenizer: TextTokenizer, messages: Messages) -> list[int]:
    """Token ids of a conversation up to where the assistant's next reply begins."""
    return render(tokenizer, messages, add_generation_prompt=True).ids


def completion_of(tokenizer: TextTokenizer, messages: Messages, text: str, ended: bool = True) -> Completion:
    """A reply as the model would have written it: with its end of turn, or without if the reply was cut short."""
    prompt = prompt_ids(tokenizer, messages)
    rendered = render(tokenizer, [*messages, {"role": "assistant", "content": text}])
    last = max(index for index, trained in enumerate(rendered.loss_mask) if trained)
    return Completion(rendered.ids[: last + 1 if ended else last], len(prompt))


def pad_completions(completions: Sequence[Completion], pad_id: int) -> Batch:
    """One completion a row, padded on the right to the longest."""
    width = max(len(completion.ids) for completion in completions)
    plan = [[row] for row in range(len(completions))]
    rows = lay_rows(
        [completion.ids for completion in completions],
        plan,
        width,
        pad_id,
        [completion.loss_mask for completion in completions],
    )
    return make_batch(rows)


def length_sorted(completions: Sequence[Completion], max_tokens: int) -> list[list[int]]:
    """Indices in batches of at most `max_tokens` cells, similar lengths together: for forwards whose order is free."""
    order = sorted(range(len(completions)), key=lambda index: (len(completions[index].ids), index))
    batches: list[list[int]] = []
    for index in order:
        width = len(completions[index].ids)
        if batches and width * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
