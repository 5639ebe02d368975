"""The rollout engine: batched decoding with continuous admission. Chat, sampling, evaluation and PPO all use it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tutelage.errors import DataError
from tutelage.generation.cache import PrefixCache, SlotCache
from tutelage.generation.sampling import Sampling, draw, uniform_numbers
from tutelage.model.transformer import CausalLM


@dataclass(frozen=True)
class Request:
    """A prompt to be continued. `seed` alone decides the random numbers of the reply; errors name it by `name`."""

    prompt_ids: Sequence[int]
    sampling: Sampling
    seed: int = 0
    name: str = ""


@dataclass
class Reply:
    """Token ids without the prompt, the stop token included, and each token's log-probability."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] = "length"

    def ends_with(self, token_id: int) -> bool:
        """Whether the last token is this one: a chat reply is finished by the end of turn, not by any stop token."""
        return bool(self.ids) and self.ids[-1] == token_id


@dataclass
class _Slot:
    """A row of the batch in use: which request, how many tokens it may still write."""

    index: int
    request: Request
    reply: Reply
    left: int


OnToken = Callable[[int, int, float], None]  # request index, token id, log-probability


class Engine:
    """Decodes requests with one model. A finished row's slot goes to the next request in the queue.

    The engine takes the model's weights as they are when it is made (a copy if they must be cast).
    """

    def __init__(self, model: CausalLM, stop_ids: Sequence[int], pad_id: int, max_slots: int = 64) -> None:
        dtype = model.compute_dtype
        if any(parameter.dtype != dtype for parameter in model.parameters()):
            model = deepcopy(model).to(dtype)
        self.model = model
        self.stop_ids = frozenset(stop_ids)
        self.pad_id = pad_id
        self.max_slots = max_slots

    @property
    def context(self) -> int:
        """Prompt and reply together may be this long, in tokens."""
        return self.model.config.max_position_embeddings

    def generate(
        self,
        requests: Sequence[Request],
        on_token: OnToken | None = None,
        on_reply: Callable[[int, Reply], None] | None = None,
    ) -> list[Reply]:
        """Replies in the order of the requests. Raises DataError for a prompt that leaves no room in the context."""
        replies: dict[int, Reply] = {}
        for index, token, logprob, reply in self._run(requests):
            if on_token is not None:
                on_token(index, token, logprob)
            if reply is not None:
                replies[index] = reply
                if on_reply is not None:
                    on_reply(index, reply)
        return [replies[index] for index in range(len(requests))]

    def stream(self, request: Request) -> Iterator[int]:
        """Token ids of one reply as they are drawn, the stop token included."""
        for _, token, _, _ in self._run([request]):
            yield token

    @torch.no_grad()
    def _step(self, cache: SlotCache, tokens_B: Tensor) -> Tensor:
        mask = cache.begin_step()
        positions_B1 = cache.lengths_B[:, None]
        hidden = self.model.model(tokens_B[:, None], positions_B1, mask, self.model.compute_dtype, cache)
        cache.lengths_B += 1
        logits: Tensor = self.model.lm_head(hidden[:, 0])
        return logits

    @torch.no_grad()
    def _prefill(self, prompts: Sequence[tuple[int, ...]]) -> tuple[PrefixCache, Tensor]:
        """Keys and values of distinct prompts, and the logits after each."""
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        width = int(lengths.max())
        ids = torch.tensor([[*prompt, *[self.pad_id] * (width - len(prompt))] for prompt in prompts])
        prefix = PrefixCache(self.model.config, lengths, width, self.model.compute_dtype)
        positions = torch.arange(width).expand_as(ids)
        # right padding comes after every real token, so that a causal mask keeps it out
        hidden = self.model.model(ids, positions, None, self.model.compute_dtype, prefix)
        last = hidden[torch.arange(len(prompts)), lengths - 1]
        logits: Tensor = self.model.lm_head(last)
        return prefix, logits

    def _run(self, requests: Sequence[Request]) -> Iterator[tuple[int, int, float, Reply | None]]:
        for index, request in enumerate(requests):
            self._check(index, request)
        if not requests:
            return
        queue = deque(enumerate(requests))
        capacity = max(self._limit(request) + len(request.prompt_ids) for request in requests)
        num_slots = min(self.max_slots, len(requests))
        cache = SlotCache(self.model.config, num_slots, capacity, self.model.compute_dtype)
        state = _State([None] * num_slots, uniforms=torch.zeros(num_slots, 1, dtype=torch.float64))
        state.logits_BV = torch.zeros(num_slots, self.model.config.vocab_size, dtype=self.model.compute_dtype)
        while queue or state.busy:
            free = state.free
            if queue and (len(free) * 4 >= len(state.slots) or not state.busy):
                self._admit(queue, free, cache, state)
            elif not queue and 2 * len(state.busy) <= len(state.slots):
                state.keep(state.busy, cache)
            yield from self._draw(state)
            if state.busy:
                cache.park(state.free)
                state.logits_BV = self._step(cache, state.tokens_B)

    def _admit(self, queue: deque[tuple[int, Request]], free: list[int], cache: SlotCache, state: _State) -> None:
        taken = [queue.popleft() for _ in range(min(len(free), len(queue)))]
        slots = torch.tensor(free[: len(taken)])
        prompts = list(dict.fromkeys(tuple(request.prompt_ids) for _, request in taken))
        rows = torch.tensor([prompts.index(tuple(request.prompt_ids)) for _, request in taken])
        prefix, logits = self._prefill(prompts)
        cache.place(slots, prefix, rows)
        state.logits_BV[slots] = logits[rows]
        limits = [self._limit(request) for _, request in taken]
        state.admit(slots, taken, limits)

    def _draw(self, state: _State) -> Iterator[tuple[int, int, float, Reply | None]]:
        """One token for every busy slot; a slot that ends is freed."""
        samplings = [slot.request.sampling if slot else Sampling(temperature=0) for slot in state.slots]
        temperatures = torch.tensor([sampling.temperature for sampling in samplings])
        counts = torch.tensor([len(slot.reply.ids) if slot else 0 for slot in state.slots])
        uniform_B = state.uniforms.gather(1, counts[:, None]).squeeze(1)
        tokens_B, logprobs_B = draw(state.logits_BV, uniform_B, temperatures, samplings)
        state.tokens_B = tokens_B
        for number, (token, logprob) in enumerate(zip(tokens_B.tolist(), logprobs_B.tolist(), strict=True)):
            slot = state.slots[number]
            if slot is None:
                continue
            slot.reply.ids.append(token)
            slot.reply.logprobs.append(logprob)
            slot.left -= 1
            stopped = token in self.stop_ids
            if stopped:
                slot.reply.finish_reason = "stop"
            ended = stopped or slot.left == 0
            if ended:
                state.slots[number] = None
            yield slot.index, token, logprob, slot.reply if ended else None

    def _limit(self, request: Request) -> int:
        return min(request.sampling.max_tokens, self.context - len(request.prompt_ids))

    def _check(self, index: int, request: Request) -> None:
        name = request.name or str(index)
        if not request.prompt_ids:
            raise DataError(f"prompt {name} is empty", hint="a prompt needs at least one token")
        if len(request.prompt_ids) >= self.context:
            raise DataError(
                f"prompt {name} has {len(request.prompt_ids)} tokens; the model's context is {self.context} tokens, "
                "reply included",
                hint="shorten the prompt (in chat: /clear), or train a model with a longer context",
            )


@dataclass
class _State:
    """The rows being decoded."""

    slots: list[_Slot | None]
    uniforms: Tensor  # [B, max tokens]: every row's random numbers, drawn at admission
    logits_BV: Tensor = field(default_factory=lambda: torch.empty(0))
    tokens_B: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    @property
    def busy(self) -> list[int]:
        """Slots in use."""
        return [number for number, slot in enumerate(self.slots) if slot is not None]

    @property
    def free(self) -> list[int]:
        """Slots not in use."""
        return [number for number, slot in enumerate(self.slots) if slot is None]

    def admit(self, slots: Tensor, taken: Sequence[tuple[int, Request]], limits: Sequence[int]) -> None:
        """Put requests into slots and draw their random numbers."""
        longest = max(limits)
        if self.uniforms.shape[1] < longest:
            more = torch.zeros(len(self.slots), longest - self.uniforms.shape[1], dtype=torch.float64)
            self.uniforms = torch.cat((self.uniforms, more), 1)
        numbers = uniform_numbers([request.seed for _, request in taken], longest)
        self.uniforms[slots, :longest] = numbers
        for number, (index, request), limit in zip(slots.tolist(), taken, limits, strict=True):
            self.slots[number] = _Slot(index, request, Reply(), limit)

    def keep(self, kept: list[int], cache: SlotCache) -> None:
        """Shrink the batch to these slots."""
        if not kept:
            return
        index = torch.tensor(kept)
        cache.keep(index)
        self.slots = [self.slots[number] for number in kept]
        self.uniforms, self.logits_BV = self.uniforms[index], self.logits_BV[index]
