"""What the engine asks of a model: prompts into slots, then one token a slot; by the kernel or by torch."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Protocol

import torch
from torch import Tensor

from tutelage.generation.cache import PrefixCache, SlotCache
from tutelage.model.decoding import MAX_ROWS, PackedDecoder, can_pack
from tutelage.model.transformer import CausalLM

Prompt = tuple[int, ...]


class Forward(Protocol):
    """One model's way of decoding. `needs_idle_slots`: whether a step computes slots that nobody uses, too."""

    needs_idle_slots: bool
    cache_dtype: torch.dtype
    logits_dtype: torch.dtype

    def admit(self, cache: SlotCache, slots: Tensor, prompts: Sequence[Prompt], rows: Sequence[int]) -> Tensor:
        """Put `prompts[rows[n]]` into `slots[n]`, each distinct prompt computed once; logits [N, V] after each."""

    def step(self, cache: SlotCache, slots_N: Tensor, tokens_N: Tensor) -> Tensor:
        """Append a token to each of these slots, given in rising order; logits [N, V] after it, until the next call."""


def forward_of(model: CausalLM, pad_id: int) -> Forward:
    """The quickest way that this model allows; it takes the weights as they are now."""
    return PackedForward(model) if can_pack(model) else TorchForward(model, pad_id)


class PackedForward:
    """By the kernel: only the rows in use, each by the same additions whatever its company."""

    needs_idle_slots, logits_dtype = False, torch.float32

    def __init__(self, model: CausalLM) -> None:
        self.cache_dtype = model.compute_dtype
        self._decoder = PackedDecoder(model)

    def admit(self, cache: SlotCache, slots: Tensor, prompts: Sequence[Prompt], rows: Sequence[int]) -> Tensor:
        """See Forward."""
        homes = torch.tensor([int(slots[rows.index(number)]) for number in range(len(prompts))])
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        tokens_N = torch.tensor([token for prompt in prompts for token in prompt])
        slots_N = homes.repeat_interleave(lengths)
        ends = lengths.cumsum(0)
        positions_N = torch.arange(len(tokens_N)) - (ends - lengths).repeat_interleave(lengths)
        logits = []
        for start in range(0, len(tokens_N), MAX_ROWS):
            part = slice(start, start + MAX_ROWS)
            last = [end - 1 - start for end in ends.tolist() if start < end <= start + MAX_ROWS]
            rows_of_part = tokens_N[part], slots_N[part], positions_N[part]
            logits.append(self._decoder.forward(cache.keys, cache.values, *rows_of_part, last).clone())
        cache.copy(homes[list(rows)], slots, int(lengths.max()))
        cache.lengths_B[slots] = lengths[list(rows)]
        return torch.cat(logits)[list(rows)]

    def step(self, cache: SlotCache, slots_N: Tensor, tokens_N: Tensor) -> Tensor:
        """See Forward."""
        logits = self._decoder.forward(cache.keys, cache.values, tokens_N, slots_N, cache.lengths_B[slots_N])
        cache.lengths_B[slots_N] += 1
        return logits


class TorchForward:
    """By torch, in every dtype that the model computes in; the reference that the kernel is tested against."""

    needs_idle_slots = True

    def __init__(self, model: CausalLM, pad_id: int) -> None:
        self.cache_dtype = self.logits_dtype = dtype = model.compute_dtype
        if any(parameter.dtype != dtype for parameter in model.parameters()):
            model = deepcopy(model).to(dtype)
        self._model, self._pad_id = model, pad_id

    @torch.no_grad()
    def admit(self, cache: SlotCache, slots: Tensor, prompts: Sequence[Prompt], rows: Sequence[int]) -> Tensor:
        """See Forward."""
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        width = int(lengths.max())
        ids = torch.tensor([[*prompt, *[self._pad_id] * (width - len(prompt))] for prompt in prompts])
        prefix = PrefixCache(self._model.config, lengths, width, self._model.compute_dtype)
        positions = torch.arange(width).expand_as(ids)
        # right padding comes after every real token, so that a causal mask keeps it out
        hidden = self._model.model(ids, positions, None, self._model.compute_dtype, prefix)
        cache.place(slots, prefix, torch.tensor(rows))
        logits: Tensor = self._model.lm_head(hidden[torch.arange(len(prompts)), lengths - 1])
        return logits[list(rows)]

    @torch.no_grad()
    def step(self, cache: SlotCache, slots_N: Tensor, tokens_N: Tensor) -> Tensor:
        """See Forward."""
        idle = torch.ones(cache.num_slots, dtype=torch.bool)
        idle[slots_N] = False
        cache.park(idle)
        tokens_B = tokens_N.new_zeros(cache.num_slots)
        tokens_B[slots_N] = tokens_N
        mask, positions_B1 = cache.begin_step(), cache.lengths_B[:, None]
        hidden = self._model.model(tokens_B[:, None], positions_B1, mask, self._model.compute_dtype, cache)
        cache.lengths_B += 1
        logits: Tensor = self._model.lm_head(hidden[:, 0])
        return logits if len(slots_N) == cache.num_slots else logits[slots_N]
