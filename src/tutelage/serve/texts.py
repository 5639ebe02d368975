"""POST /v1/completions: texts or ids in, what follows out; with `echo` also how likely the prompt itself is."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tutelage.generation.request import Reply, Tops
from tutelage.generation.scoring import Score, score
from tutelage.serve.answering import Mould, cancel, whole
from tutelage.serve.chat import merged, new_id, usage
from tutelage.serve.drawing import requests_of
from tutelage.serve.logprobs import Table, tokens_of
from tutelage.serve.models import Served
from tutelage.serve.prompts import text_prompts
from tutelage.serve.protocol import CompletionBody
from tutelage.serve.refusal import invalid
from tutelage.serve.saying import Offer, Pieces, plain_text
from tutelage.serve.worker import Ticket

Row = tuple[int, float | None, Tops]


@dataclass
class Text:
    """One request on its way. Of a prompt's ids the first `added` were put there by us and are not shown."""

    served: Served
    body: CompletionBody
    prompts: list[tuple[list[int], int]]
    scores: list[Score | None]
    tickets: list[Ticket]
    id: str = field(default_factory=lambda: new_id("cmpl"))
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def head(self) -> dict[str, Any]:
        """What all objects of this answer begin with."""
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.served.name}

    @property
    def num_choices(self) -> int:
        """`n` for each prompt."""
        return len(self.prompts) * self.body.n

    def usage(self, num_completion: int) -> dict[str, int]:
        """Tokens of all prompts, each counted once, and of all replies."""
        return usage(sum(len(ids) for ids, _ in self.prompts), num_completion)

    def prompt_text(self, index: int) -> str:
        """What is echoed of choice `index`."""
        place = index // self.body.n
        if not self.body.echo:
            return ""
        if isinstance(self.body.prompt, str):
            return self.body.prompt
        prompt = self.body.prompt[place]
        return prompt if isinstance(prompt, str) else self.served.tokenizer.decode(self.prompts[place][0])

    def prompt_rows(self, index: int) -> list[Row]:
        """The echoed tokens: the first of all has nothing before it, so no log-prob."""
        place = index // self.body.n
        (ids, added), scored = self.prompts[place], self.scores[place]
        if not self.body.echo or scored is None:
            return []
        tops = scored.tops or [[] for _ in scored.logprobs]
        rows: list[Row] = [(ids[0], None, []), *zip(ids[1:], scored.logprobs, tops, strict=True)]
        return rows[added:]

    def choice(self, index: int, reply: Reply | None) -> dict[str, Any]:
        """A choice as a whole; without a reply if none was asked for."""
        tokens = tokens_of(reply) if reply else []
        rows = [*self.prompt_rows(index), *((token.id, token.logprob, token.tops) for token in tokens)]
        wanted = self.body.logprobs is not None
        return {
            "index": index,
            "text": self.prompt_text(index) + (plain_text(self.served.tokenizer, reply) if reply else ""),
            "logprobs": Table(self.served.tokenizer).write(rows) if wanted else None,
            "finish_reason": reply.finish_reason if reply else "length",
        }


async def begin(served: Served, body: CompletionBody) -> Text:
    """Check a request, score its prompts if they are echoed with log-probs, and hand it to the engine."""
    if body.suffix:
        raise invalid("suffix cannot be honoured: these models only continue texts", "suffix")
    if body.best_of is not None and body.best_of != body.n:
        raise invalid("best_of cannot be honoured: ask for n and choose yourself", "best_of")
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options needs stream: true", "stream_options")
    if body.max_tokens == 0 and not body.echo:
        raise invalid("max_tokens 0 needs echo: there would be nothing to answer", "max_tokens")
    prompts = text_prompts(served, body)
    ids = [prompt for prompt, _ in prompts]
    requests = requests_of(served, body, ids, max(body.max_tokens, 1), body.logprobs) if body.max_tokens else []
    scores: list[Score | None] = [None] * len(prompts)
    if body.echo and body.logprobs is not None:
        model, num_tops = served.speaker.model, body.logprobs
        scores = [await served.worker.call(partial(score, model, prompt, num_tops)) for prompt in ids]
    tickets = served.worker.submit(requests, streams=body.stream) if requests else []
    return Text(served, body, prompts, scores, tickets)


async def answer(text: Text) -> dict[str, Any]:
    """The whole answer."""
    replies: Sequence[Reply | None] = [None] * text.num_choices
    if text.tickets:
        replies = await whole(text.served.worker, text.tickets)
    choices = [text.choice(index, reply) for index, reply in enumerate(replies)]
    return {**text.head, "choices": choices, "usage": text.usage(_drawn(replies))}


async def stream(text: Text) -> AsyncGenerator[dict[str, Any] | str]:
    """The answer as chunks."""
    includes_usage = text.body.stream_options is not None and text.body.stream_options.include_usage
    told = {"usage": None} if includes_usage else {}
    tokenizer, wanted = text.served.tokenizer, text.body.logprobs is not None
    tables = [Table(tokenizer) for _ in range(text.num_choices)]
    pieces = [Pieces(tokenizer, text.body.stops, Offer()) for _ in range(text.num_choices)]
    held: list[list[Row]] = [[] for _ in range(text.num_choices)]
    replies: list[Reply] = []

    def chunk(index: int, piece: str, rows: Sequence[Row], reason: str | None = None) -> dict[str, Any]:
        logprobs = tables[index].write(rows) if wanted and rows else None
        choice = {"index": index, "text": piece, "logprobs": logprobs, "finish_reason": reason}
        return {**text.head, "choices": [choice], **told}

    moulds = [Mould(partial(chunk, index, rows=())) for index in range(text.num_choices)]
    try:
        for index in range(text.num_choices):
            if text.body.echo:
                reason = None if text.tickets else "length"
                yield chunk(index, text.prompt_text(index), text.prompt_rows(index), reason)
        async for index, event in merged(text.tickets):
            if isinstance(event, list):
                piece, count = pieces[index].push_all([token.id for token in event])
                count += len(held[index]) if count else 0
                held[index] += [(token.id, token.logprob, token.tops) for token in event]
                if piece and wanted:
                    yield chunk(index, piece, held[index][:count])
                elif piece:
                    yield moulds[index].fill(piece)
                del held[index][:count]
                continue
            replies.append(event)
            rest = pieces[index].finish(plain_text(tokenizer, event))
            yield chunk(index, rest, held[index], event.finish_reason)
        if includes_usage:
            yield {**text.head, "choices": [], "usage": text.usage(_drawn(replies))}
    finally:
        cancel(text.served.worker, text.tickets)


def _drawn(replies: Sequence[Reply | None]) -> int:
    return sum(len(reply.ids) for reply in replies if reply)
