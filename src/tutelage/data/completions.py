"""Prompts with a completion each, packed or padded: what reward models, DPO and PPO train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.data.batches import Batch, make_batch
from tutelage.data.packing import Strip, lay_rows, lay_strips, runs
from tutelage.data.shared_prompts import Family, plan_rows
from tutelage.data.template import render
from tutelage.data.tokenizer import TextTokenizer
from tutelage.model.segments import BRANCHES

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Completion:
    """A rendered prompt followed by a completion; the completion's tokens include the end of turn if it `ended`.

    `written`, one entry a token, leaves out what others put into a completion: the results of tools.
    """

    ids: list[int]
    num_prompt: int
    written: tuple[bool, ...] | None = None

    @property
    def loss_mask(self) -> list[bool]:
        """True on the completion's tokens, as far as they are `written`."""
        written = self.written or (True,) * len(self.ids)
        return [index >= self.num_prompt and own for index, own in enumerate(written)]


def is_whole(row: Mapping[str, Any]) -> bool:
    """Whether a reply that a model drew came to its end and says something."""
    return row["finish_reason"] == "stop" and bool(row["completion"].strip())


def spoken(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The messages of a prompt and of the reply that a model drew; with its calls, where it made any."""
    said = row.get("turns") or [{"role": "assistant", "content": row["completion"]}]
    return [*row["prompt"], *said]


def prompt_ids(tokenizer: TextTokenizer, messages: Messages, tools: Messages | None = None) -> list[int]:
    """Token ids of a conversation, with the tools that may be called, up to where the assistant's next reply begins."""
    return render(tokenizer, messages, tools, add_generation_prompt=True).ids


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


@dataclass(frozen=True)
class PackedCompletions:
    """N completions in few rows: `rows`, and whose each position is (`owners_BT`; N where there is nobody's)."""

    rows: Batch
    owners_BT: Tensor  # int64
    lengths_N: Tensor  # int64, prompt and completion

    def sums(self, values_BT: Tensor) -> Tensor:
        """Σ of the values of each completion's positions, (N,)."""
        totals = values_BT.new_zeros(len(self.lengths_N) + 1)
        return totals.index_add(0, self.owners_BT.flatten(), values_BT.flatten())[:-1]

    def lay(self, values: Tensor, mask_BT: Tensor) -> Tensor:
        """Values of the positions in the mask, completion after completion, put where those positions are; else 0."""
        return values.new_zeros(mask_BT.numel()).index_copy(0, self._places(mask_BT), values).view(mask_BT.shape)

    def take(self, values_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """What `lay` put there: the values of the positions in the mask, completion after completion."""
        return values_BT.flatten()[self._places(mask_BT)]

    def _places(self, mask_BT: Tensor) -> Tensor:
        places = mask_BT.flatten().nonzero().squeeze(1)
        return places[self.owners_BT.flatten()[places].argsort(stable=True)]

    @property
    def last(self) -> tuple[Tensor, Tensor]:
        """(row, column) of every completion's last token: where a score is read."""
        width = self.owners_BT.shape[1]
        flat = self.owners_BT.flatten()
        ends = flat.new_zeros(len(self.lengths_N) + 1).scatter_reduce(0, flat, torch.arange(flat.numel()), "amax")[:-1]
        return ends // width, ends % width


def pack_completions(completions: Sequence[Completion], pad_id: int, least_width: int = 128) -> PackedCompletions:
    """Several completions a row, none of which attends to another; those of one prompt share it where that is cheaper.

    A shared prompt is laid once and is nobody's, but for its last token, which each completion has for itself. Rows
    are as wide as the longest completion, or `least_width`; where prompts are shared, as `plan_rows` finds best.
    """
    lengths = [len(completion.ids) for completion in completions]
    prompts = [completion.ids[: completion.num_prompt] for completion in completions]
    plan = plan_rows(prompts, lengths, max(least_width, *lengths))
    rows = [_strips(row, completions) for row in plan.rows]
    batch = make_batch(lay_strips(rows, plan.width, pad_id))
    owners = torch.full(batch.input_ids_BT.shape, len(lengths))
    for row, strips in enumerate(rows):
        counts = torch.tensor([len(strip.ids) for strip in strips])
        owners[row, : int(counts.sum())] = torch.tensor([strip.owner for strip in strips]).repeat_interleave(counts)
    return PackedCompletions(batch, owners, torch.tensor(lengths))


def _strips(row: Sequence[Family], completions: Sequence[Completion]) -> list[Strip]:
    """A row's tokens: of every family what is shared, which is nobody's (owner N), and then each member's own."""
    strips = []
    for number, (prefix, members) in enumerate(row, start=1):
        root = number * BRANCHES if prefix else number - 1
        if prefix:
            shared = completions[members[0]].ids[:prefix]
            strips.append(Strip(shared, [False] * prefix, root, owner=len(completions)))
        for branch, member in enumerate(members, start=1):
            own = completions[member]
            strips.append(Strip(own.ids[prefix:], own.loss_mask[prefix:], root + branch, member, start=prefix))
    return strips


def in_token_batches(completions: Sequence[Completion], max_tokens: int = 16_384) -> list[range]:
    """Runs of completions of about `max_tokens` tokens: for forwards that train nothing."""
    return runs([len(completion.ids) for completion in completions], max_tokens)


@torch.no_grad()
def sequence_logprobs(
    model: nn.Module,
    completions: Sequence[Completion],
    pad_id: int,
    advance: Callable[[int], None] = lambda count: None,
) -> Tensor:
    """Σ log P of each completion's tokens given its prompt, (N,) float32; `advance` hears how many are done."""
    sums = torch.zeros(len(completions))
    for part in in_token_batches(completions):
        packed = pack_completions([completions[index] for index in part], pad_id)
        rows = packed.rows
        logprobs_BT, _ = model(rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT, targets_BT=rows.targets_BT)
        sums[part.start : part.stop] = packed.sums(logprobs_BT)
        advance(len(part))
    return sums


def distinct_completions(completions: Sequence[Completion]) -> tuple[list[Completion], list[int]]:
    """The completions without repetition, and for each given one its number among them."""
    numbers: dict[tuple[int, ...], int] = {}
    places = [numbers.setdefault(tuple(completion.ids), len(numbers)) for completion in completions]
    first = dict(zip(reversed(places), reversed(completions), strict=True))
    return [first[number] for number in range(len(numbers))], places
