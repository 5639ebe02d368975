"""The rows being decoded: whose they are, their random numbers and what they have written, as tensors over slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tutelage.data.tokenizer import TextTokenizer
from tutelage.generation.request import Reply, Request, StopStrings, Tops
from tutelage.generation.sampling import draw, uniform_numbers


@dataclass
class _Slot:
    """A row in use: which request; what watches for its stop strings, if it has some."""

    index: int
    request: Request
    stop_strings: StopStrings | None
    tops: list[Tops] = field(default_factory=list)


@dataclass(frozen=True)
class Drawn:
    """One token of each row in use: request numbers, ids, log-probabilities, which go on, the replies that ended.

    `tops` are the likeliest tokens of those that asked for them, by request number.
    """

    indices: list[int]
    tokens_N: Tensor
    logprobs_N: Tensor
    going_N: Tensor
    ended: dict[int, Reply]
    tops: dict[int, Tops]


class Slots:
    """B rows, some of them in use. No Python per row and token, except for rows with stops of their own."""

    def __init__(self, num_slots: int, longest: int, vocab_size: int, tokenizer: TextTokenizer | None) -> None:
        self._slots: list[_Slot | None] = [None] * num_slots
        self._tokenizer = tokenizer
        self._uniforms = torch.zeros(num_slots, longest, dtype=torch.float64)  # drawn at admission
        self._tokens = torch.zeros(num_slots, longest, dtype=torch.long)
        self._logprobs = torch.zeros(num_slots, longest)
        self._counts, self._limits = (torch.zeros(num_slots, dtype=torch.long) for _ in range(2))
        self._vocab_size = vocab_size
        self._seen: Tensor | None = None  # [B, V]: tokens of prompt and reply, once a request has a penalty for them
        self.busy_N = torch.empty(0, dtype=torch.long)

    @property
    def free(self) -> list[int]:
        """Slots not in use."""
        return [number for number, slot in enumerate(self._slots) if slot is None]

    @property
    def last_tokens(self) -> Tensor:
        """The newest token of every slot in use."""
        return self._tokens[self.busy_N, self._counts[self.busy_N] - 1]

    def __len__(self) -> int:
        return len(self._slots)

    def admit(self, numbers: Sequence[int], taken: Sequence[tuple[int, Request]], limits: Sequence[int]) -> None:
        """Put requests into slots and draw their random numbers."""
        slots, longest = torch.tensor(numbers), max(limits)
        self._uniforms[slots, :longest] = uniform_numbers([request.seed for _, request in taken], longest)
        self._counts[slots], self._limits[slots] = 0, torch.tensor(limits)
        for number, (index, request) in zip(numbers, taken, strict=True):
            strings = (
                StopStrings(self._tokenizer, request.stop_strings) if self._tokenizer and request.stop_strings else None
            )
            self._slots[number] = _Slot(index, request, strings)
            self._mark_prompt(number, request)
        self._find_busy()

    def draw(self, logits_NV: Tensor, stop_ids: Tensor) -> Drawn:
        """One token for every slot in use; those that it ends are freed."""
        busy_N = self.busy_N
        slots = [slot for slot in self._slots if slot is not None]
        samplings = [slot.request.sampling for slot in slots]
        counts_N = self._counts[busy_N]
        seen_NV = None if self._seen is None else self._seen[busy_N]
        steered_NV = _steered(logits_NV, slots)
        tokens_N, logprobs_N = draw(steered_NV, self._uniforms[busy_N, counts_N], samplings, seen_NV)
        tops = _looked_at(logits_NV, slots, tokens_N, logprobs_N)
        self._tokens[busy_N, counts_N], self._logprobs[busy_N, counts_N] = tokens_N, logprobs_N.float()
        if self._seen is not None:
            self._seen[busy_N, tokens_N] = True
        self._counts[busy_N] += 1
        stopped_N = torch.isin(tokens_N, stop_ids)
        for n, slot in enumerate(slots):
            if slot.request.stop_ids or slot.stop_strings:
                stopped_N[n] |= _own_stop(slot, int(tokens_N[n]))
            if slot.request.steering is not None:
                slot.request.steering.push(int(tokens_N[n]))
        ended_N = stopped_N | (counts_N + 1 >= self._limits[busy_N])
        ended = {
            slots[n].index: self._end(int(busy_N[n]), bool(stopped_N[n])) for n in ended_N.nonzero()[:, 0].tolist()
        }
        if ended:
            self._find_busy()
        return Drawn([slot.index for slot in slots], tokens_N, logprobs_N, ~ended_N, ended, tops)

    def release(self, index: int) -> None:
        """Free the slot of a request, if it has one; its reply is lost."""
        self._slots = [None if slot is not None and slot.index == index else slot for slot in self._slots]
        self._find_busy()

    def keep(self, kept: Tensor) -> None:
        """Drop all other slots."""
        self._slots = [self._slots[number] for number in kept.tolist()]
        self._uniforms, self._tokens, self._logprobs = self._uniforms[kept], self._tokens[kept], self._logprobs[kept]
        self._counts, self._limits = self._counts[kept], self._limits[kept]
        self._seen = None if self._seen is None else self._seen[kept]
        self._find_busy()

    def _mark_prompt(self, number: int, request: Request) -> None:
        if request.sampling.repetition_penalty != 1 and self._seen is None:
            self._seen = torch.zeros(len(self), self._vocab_size, dtype=torch.bool)
        if self._seen is not None:
            self._seen[number] = False
            self._seen[number, list(request.prompt_ids)] = True

    def _end(self, number: int, stopped: bool) -> Reply:
        slot, count = self._slots[number], int(self._counts[number])
        assert slot is not None
        self._slots[number] = None
        text = None
        if slot.stop_strings is not None:
            stopped = slot.stop_strings.finish() or stopped
            text = slot.stop_strings.text
        ids, logprobs = self._tokens[number, :count].tolist(), self._logprobs[number, :count].tolist()
        return Reply(ids, logprobs, "stop" if stopped else "length", text, slot.tops)

    def _find_busy(self) -> None:
        self.busy_N = torch.tensor(
            [number for number, slot in enumerate(self._slots) if slot is not None], dtype=torch.long
        )


def _own_stop(slot: _Slot, token: int) -> bool:
    by_string = slot.stop_strings is not None and slot.stop_strings.push(token)
    return token in slot.request.stop_ids or by_string


def _steered(logits_NV: Tensor, slots: Sequence[_Slot]) -> Tensor:
    if all(slot.request.steering is None for slot in slots):
        return logits_NV
    rows = [
        row if slot.request.steering is None else slot.request.steering.steer(row)
        for row, slot in zip(logits_NV, slots, strict=True)
    ]
    return torch.stack(rows)


def _looked_at(logits_NV: Tensor, slots: Sequence[_Slot], tokens_N: Tensor, logprobs_N: Tensor) -> dict[int, Tops]:
    """The likeliest tokens where they are asked for; the log-probs of these rows become the model's own."""
    found: dict[int, Tops] = {}
    for n, slot in enumerate(slots):
        if slot.request.num_tops is None:
            continue
        logprobs_V = logits_NV[n].float().log_softmax(-1)
        logprobs_N[n] = logprobs_V[tokens_N[n]]
        found[slot.index] = tops_of(logprobs_V, slot.request.num_tops)
        slot.tops.append(found[slot.index])
    return found


def tops_of(logprobs_V: Tensor, count: int) -> Tops:
    """The likeliest tokens of a distribution, likeliest first."""
    values, tokens = logprobs_V.topk(min(count, len(logprobs_V)))
    return list(zip(tokens.tolist(), values.tolist(), strict=True))
