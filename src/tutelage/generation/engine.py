"""The rollout engine: batched decoding with continuous admission. Chat, sampling, evaluation and PPO all use it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from tutelage.data.tokenizer import TextTokenizer
from tutelage.generation.cache import SlotCache
from tutelage.generation.forward import forward_of
from tutelage.generation.request import Reply, Request, check_request
from tutelage.generation.slots import Drawn, Slots
from tutelage.model.transformer import CausalLM

__all__ = ["Engine", "OnToken", "Reply", "Request"]

OnToken = Callable[[int, int, float], None]  # request index, token id, log-probability


class Engine:
    """Decodes requests with one model. A finished row's slot goes to the next request in the queue.

    The engine takes the model's weights as they are when it is made. `tokenizer` is needed for stop strings only.
    """

    def __init__(
        self,
        model: CausalLM,
        stop_ids: Sequence[int],
        pad_id: int,
        max_slots: int = 64,
        tokenizer: TextTokenizer | None = None,
    ) -> None:
        self.config = model.config
        self._forward = forward_of(model, pad_id)
        self.stop_ids = frozenset(stop_ids)
        self.pad_id = pad_id
        self.max_slots = max_slots
        self._tokenizer = tokenizer

    @property
    def context(self) -> int:
        """Prompt and reply together may be this long, in tokens."""
        return self.config.max_position_embeddings

    def generate(
        self,
        requests: Sequence[Request],
        on_token: OnToken | None = None,
        on_reply: Callable[[int, Reply], None] | None = None,
    ) -> list[Reply]:
        """Replies in the order of the requests. Raises DataError for a prompt that leaves no room in the context."""
        replies: dict[int, Reply] = {}
        for drawn in self._run(requests):
            if on_token is not None:
                tokens, logprobs = drawn.tokens_N.tolist(), drawn.logprobs_N.tolist()
                for index, token, logprob in zip(drawn.indices, tokens, logprobs, strict=True):
                    on_token(index, token, logprob)
            for index, reply in drawn.ended.items():
                replies[index] = reply
                if on_reply is not None:
                    on_reply(index, reply)
        return [replies[index] for index in range(len(requests))]

    def stream(self, request: Request) -> Iterator[int]:
        """Token ids of one reply as they are drawn, the stop token included."""
        for drawn in self._run([request]):
            yield int(drawn.tokens_N)

    def _run(self, requests: Sequence[Request]) -> Iterator[Drawn]:
        for index, request in enumerate(requests):
            check_request(request, index, self.context, self._tokenizer)
        if not requests:
            return
        queue = deque(enumerate(requests))
        num_slots = min(self.max_slots, len(requests))
        capacity = max(self._limit(request) + len(request.prompt_ids) for request in requests)
        cache = SlotCache(self.config, num_slots, capacity, self._forward.cache_dtype)
        longest = max(map(self._limit, requests))
        slots = Slots(num_slots, longest, self.config.vocab_size, self._tokenizer)
        stop_ids = torch.tensor(sorted(self.stop_ids), dtype=torch.long)
        logits_NV = torch.empty(0, self.config.vocab_size, dtype=self._forward.logits_dtype)
        while queue or len(slots.busy_N):
            free = slots.free
            if queue and (len(free) * 4 >= len(slots) or len(free) == len(slots)):
                logits_NV = self._admit(queue, free, cache, slots, logits_NV)
            elif self._forward.needs_idle_slots and not queue and 2 * len(slots.busy_N) <= len(slots):
                cache.keep(slots.busy_N)
                slots.keep(slots.busy_N)
            drawn = slots.draw(logits_NV, stop_ids)
            yield drawn
            if len(slots.busy_N):
                logits_NV = self._forward.step(cache, slots.busy_N, drawn.tokens_N[drawn.going_N])

    def _admit(
        self, queue: deque[tuple[int, Request]], free: list[int], cache: SlotCache, slots: Slots, logits_NV: Tensor
    ) -> Tensor:
        """Requests into free slots; the logits of all slots in use, in the order of slots."""
        taken = [queue.popleft() for _ in range(min(len(free), len(queue)))]
        numbers = free[: len(taken)]
        prompts = list(dict.fromkeys(tuple(request.prompt_ids) for _, request in taken))
        places = {prompt: number for number, prompt in enumerate(prompts)}
        rows = [places[tuple(request.prompt_ids)] for _, request in taken]
        waiting = logits_NV[: len(slots.busy_N)].clone()  # the next forward may write over them
        added = self._forward.admit(cache, torch.tensor(numbers), prompts, rows)
        order = torch.cat((slots.busy_N, torch.tensor(numbers))).argsort()
        slots.admit(numbers, taken, [self._limit(request) for _, request in taken])
        return torch.cat((waiting, added))[order]

    def _limit(self, request: Request) -> int:
        return min(request.sampling.max_tokens, self.context - len(request.prompt_ids))
