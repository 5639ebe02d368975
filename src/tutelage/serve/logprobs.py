"""Tokens and their log-probs as the two routes write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tutelage.data.tokenizer import IncrementalDecoder, TextTokenizer
from tutelage.generation.request import Reply, Tops
from tutelage.serve.events import Token


def token_text(tokenizer: TextTokenizer, token_id: int) -> str:
    """A token as text; bytes that are no text by themselves as `bytes:\\xNN`, so that tokens stay apart."""
    if token_id >= tokenizer.vocab_size:
        return f"token_id:{token_id}"
    if not tokenizer.is_byte_level:
        return tokenizer.token(token_id).replace("\u2581", " ")
    stands_for = tokenizer.token_bytes[token_id]
    try:
        return stands_for.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in stands_for)


def _bytes(tokenizer: TextTokenizer, token_id: int) -> list[int] | None:
    if token_id >= tokenizer.vocab_size:
        return None
    if tokenizer.is_byte_level:
        return list(tokenizer.token_bytes[token_id])
    return list(token_text(tokenizer, token_id).encode())


def chat_logprobs(tokenizer: TextTokenizer, tokens: Sequence[Token], num_tops: int) -> dict[str, Any]:
    """`{content: [{token, logprob, bytes, top_logprobs}], refusal: null}`."""

    def entry(token_id: int, logprob: float) -> dict[str, Any]:
        return {
            "token": token_text(tokenizer, token_id),
            "logprob": finite(logprob),
            "bytes": _bytes(tokenizer, token_id),
        }

    content = [
        {
            **entry(token.id, token.logprob),
            "top_logprobs": [entry(token_id, logprob) for token_id, logprob in token.tops[:num_tops]],
        }
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def finite(logprob: float) -> float:
    """JSON has no infinity."""
    return max(logprob, -9999.0)


def tokens_of(reply: Reply) -> list[Token]:
    """The reply's tokens with what is known of each."""
    tops = reply.tops or [[] for _ in reply.ids]
    return [Token(*row) for row in zip(reply.ids, reply.logprobs, tops, strict=True)]


def visible_tokens(tokenizer: TextTokenizer, tokens: Sequence[Token], text: str) -> list[Token]:
    """The tokens that the text is made of: without the one that ended it, and those after a stop string."""
    decoder, length = IncrementalDecoder(tokenizer), 0
    kept: list[Token] = []
    for token in tokens:
        if token.id in tokenizer.stop_ids or (length >= len(text) and kept):
            break
        length += len(decoder.push(token.id)) if token.id < tokenizer.vocab_size else 0
        kept.append(token)
    return kept


class Table:
    """The log-probs of `/v1/completions`: parallel lists, with the places of tokens in the text told so far."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer, self._decoder, self._offset = tokenizer, IncrementalDecoder(tokenizer), 0

    def write(self, tokens: Sequence[tuple[int, float | None, Tops]]) -> dict[str, Any]:
        """Ids with their log-probs (None: the first of a text) and the likeliest in their places."""
        texts, numbers, tops, offsets = [], [], [], []
        for token_id, logprob, likeliest in tokens:
            texts.append(token_text(self._tokenizer, token_id))
            offsets.append(self._offset)
            known = token_id < self._tokenizer.vocab_size
            self._offset += len(self._decoder.push(token_id)) if known else 0
            numbers.append(None if logprob is None else finite(logprob))
            tops.append(None if logprob is None else self._named(token_id, logprob, likeliest))
        return {"tokens": texts, "token_logprobs": numbers, "top_logprobs": tops, "text_offset": offsets}

    def _named(self, token_id: int, logprob: float, likeliest: Tops) -> dict[str, float]:
        named: dict[str, float] = {}
        chosen = [] if any(other == token_id for other, _ in likeliest) else [(token_id, logprob)]
        for other, value in [*likeliest, *chosen]:
            name = token_text(self._tokenizer, other)
            named[f"token_id:{other}" if name in named else name] = finite(value)
        return named
