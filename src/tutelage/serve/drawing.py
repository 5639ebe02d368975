"""The settings of a request as requests to the engine, one for each reply."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tutelage.generation.guidance import Grammar, guided_calls
from tutelage.generation.request import Request, Steering
from tutelage.generation.sampling import Sampling
from tutelage.serve.models import Served
from tutelage.serve.protocol import Drawing
from tutelage.serve.refusal import invalid
from tutelage.serve.steering import Bias, Penalties, Together, refused

SEEDS = 2**63
LEAST_TOP_P = 1e-9  # 0 means the likeliest token


def requests_of(
    served: Served,
    body: Drawing,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    num_tops: int | None,
    grammar: str | None = None,
    param: str = "response_format",
    tools: Sequence[Mapping[str, Any]] = (),
) -> list[Request]:
    """`n` requests for each prompt, those of a prompt together. RefusalError for more than can ever be under way.

    A reply follows the `grammar`; without one its calls are guided by the `tools` that it may call.
    """
    limits = served.worker
    if len(prompts) * body.n > limits.num_slots + limits.max_waiting:
        raise invalid(f"{len(prompts)} prompts × n = {body.n} is more than this server ever has under way", "n")
    seed = secrets.randbits(62) if body.seed is None else body.seed % SEEDS
    sampling = Sampling(
        min(max_tokens, served.context),
        body.temperature,
        max(body.top_k, 0),
        max(body.top_p, LEAST_TOP_P),
        body.min_p,
        body.repetition_penalty,
    )
    return [
        Request(
            ids,
            _fitting(sampling, served.context - len(ids)),
            seed_of(seed, place * body.n + number),
            str(place),
            stop_strings=body.stops,
            num_tops=num_tops,
            steering=_steering(served, body, grammar, param, tools),
        )
        for place, ids in enumerate(prompts)
        for number in range(body.n)
    ]


def seed_of(seed: int, number: int) -> int:
    """The seed of reply `number` of a request; the first has the request's own."""
    if number == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:8], "little")


def _fitting(sampling: Sampling, room: int) -> Sampling:
    return replace(sampling, max_tokens=min(sampling.max_tokens, room))


def _steering(
    served: Served, body: Drawing, grammar: str | None, param: str, tools: Sequence[Mapping[str, Any]]
) -> Steering | None:
    """Each reply has its own: a grammar remembers how far it is."""
    parts: list[Steering] = []
    if body.logit_bias:
        parts.append(Bias(_bias(served, body.logit_bias)))
    if body.presence_penalty or body.frequency_penalty:
        parts.append(Penalties(body.presence_penalty, body.frequency_penalty))
    if grammar is not None:
        with refused(param):
            parts.append(Grammar(served.tokenizer, grammar))
    elif (guided := guided_calls(served.tokenizer, tools)) is not None:
        parts.append(guided)
    return Together(parts) if len(parts) > 1 else next(iter(parts), None)


def _bias(served: Served, stated: dict[str, float]) -> dict[int, float]:
    size, found = served.speaker.engine.config.vocab_size, {}
    for name, value in stated.items():
        if not name.isascii() or not name.isdigit() or len(name) > 9 or int(name) >= size:
            raise invalid(f"logit_bias names {name!r:.40}, which is no token of {served.name}", "logit_bias")
        found[int(name)] = value
    return found
