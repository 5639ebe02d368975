"""Requests decoded together: slots, admission and steps; more may be added, and any be cancelled, between steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.data.tokenizer import TextTokenizer
from tutelage.generation.cache import SlotCache
from tutelage.generation.forward import Forward
from tutelage.generation.request import Request
from tutelage.generation.slots import Drawn, Slots
from tutelage.model.config import ModelConfig


class Decoding:
    """A queue of numbered requests and the slots that they are decoded in.

    `capacity`: prompt and reply together; `longest`: a reply. A `patient` one admits when a quarter of the slots is
    free, which costs least in all, and drops slots that nobody will need; else a request waits for one free slot only.
    """

    def __init__(
        self,
        config: ModelConfig,
        forward: Forward,
        stop_ids: Sequence[int],
        tokenizer: TextTokenizer | None,
        num_slots: int,
        capacity: int,
        longest: int,
        patient: bool = True,
    ) -> None:
        self._forward, self._context, self._patient = forward, config.max_position_embeddings, patient
        self._queue: deque[tuple[int, Request]] = deque()
        self._cache = SlotCache(config, num_slots, capacity, forward.cache_dtype)
        self._slots = Slots(num_slots, longest, config.vocab_size, tokenizer)
        self._stop_ids = torch.tensor(sorted(stop_ids), dtype=torch.long)
        self._logits_NV = torch.empty(0, config.vocab_size, dtype=forward.logits_dtype)

    @property
    def is_busy(self) -> bool:
        """Whether `step` has something to draw."""
        return bool(self._queue) or self.num_busy > 0

    @property
    def num_busy(self) -> int:
        """Slots in use."""
        return len(self._slots.busy_N)

    @property
    def num_waiting(self) -> int:
        """Requests without a slot."""
        return len(self._queue)

    def add(self, number: int, request: Request) -> None:
        """Put a request, already checked, into the queue."""
        self._queue.append((number, request))

    def cancel(self, number: int) -> None:
        """Forget a request wherever it is: its slot is free at the next step."""
        self._queue = deque(entry for entry in self._queue if entry[0] != number)
        self._slots.release(number)

    def step(self) -> Drawn:
        """One token for every request in a slot, after those that wait were let in."""
        cache, slots, queue = self._cache, self._slots, self._queue
        if len(slots.busy_N):
            self._logits_NV = self._forward.step(cache, slots.busy_N, slots.last_tokens)
        free = slots.free
        if queue and (not self._patient or len(free) * 4 >= len(slots) or len(free) == len(slots)) and free:
            self._logits_NV = self._admit(free)
        elif self._patient and self._forward.needs_idle_slots and not queue and 2 * len(slots.busy_N) <= len(slots):
            cache.keep(slots.busy_N)
            slots.keep(slots.busy_N)
        return slots.draw(self._logits_NV, self._stop_ids)

    def _admit(self, free: list[int]) -> Tensor:
        """Requests into free slots; the logits of all slots in use, in the order of slots."""
        slots, queue = self._slots, self._queue
        taken = [queue.popleft() for _ in range(min(len(free), len(queue)))]
        numbers = free[: len(taken)]
        prompts = list(dict.fromkeys(tuple(request.prompt_ids) for _, request in taken))
        places = {prompt: number for number, prompt in enumerate(prompts)}
        rows = [places[tuple(request.prompt_ids)] for _, request in taken]
        waiting = self._logits_NV[: len(slots.busy_N)].clone()  # the next forward may write over them
        added = self._forward.admit(self._cache, torch.tensor(numbers), prompts, rows)
        order = torch.cat((slots.busy_N, torch.tensor(numbers))).argsort()
        slots.admit(numbers, taken, [limit(request, self._context) for _, request in taken])
        return torch.cat((waiting, added))[order]


def limit(request: Request, context: int) -> int:
    """The most tokens that a reply may have."""
    return min(request.sampling.max_tokens, context - len(request.prompt_ids))
