"""The rollout engine: batched decoding with continuous admission. Chat, sampling, evaluation and PPO all use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tutelage.data.tokenizer import TextTokenizer
from tutelage.generation.decoding import Decoding, limit
from tutelage.generation.forward import forward_of
from tutelage.generation.request import Reply, Request, check_request
from tutelage.generation.slots import Drawn
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

    def decoding(self, num_slots: int, capacity: int | None = None) -> Decoding:
        """Slots for requests that come and go at any time; `capacity` at most `context` tokens, prompt and reply."""
        capacity = min(capacity or self.context, self.context)
        settings = self.config, self._forward, tuple(self.stop_ids), self._tokenizer
        return Decoding(*settings, num_slots, capacity, longest=capacity, patient=False)

    def check(self, request: Request, number: int = 0) -> None:
        """DataError for a request that cannot be decoded."""
        check_request(request, number, self.context, self._tokenizer)

    def _run(self, requests: Sequence[Request]) -> Iterator[Drawn]:
        for number, request in enumerate(requests):
            self.check(request, number)
        if not requests:
            return
        limits = [limit(request, self.context) for request in requests]
        capacity = max(most + len(request.prompt_ids) for most, request in zip(limits, requests, strict=True))
        settings = self.config, self._forward, tuple(self.stop_ids), self._tokenizer
        decoding = Decoding(*settings, min(self.max_slots, len(requests)), capacity, max(limits))
        for number, request in enumerate(requests):
            decoding.add(number, request)
        while decoding.is_busy:
            yield decoding.step()
