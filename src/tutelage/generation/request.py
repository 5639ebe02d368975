"""What is asked of the engine, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor

from tutelage.data.tokenizer import IncrementalDecoder, TextTokenizer
from tutelage.errors import DataError
from tutelage.generation.sampling import Sampling


class Steering(Protocol):
    """What a reply may say: a grammar, a bias. It belongs to one request and hears every token of its reply."""

    def steer(self, logits_V: Tensor) -> Tensor:
        """The logits to draw the next token from; −inf rules a token out, and one at least must be left."""

    def push(self, token_id: int) -> None:
        """Hear what was drawn."""


@dataclass(frozen=True)
class Request:
    """A prompt to be continued. `seed` alone decides the random numbers of the reply; errors name it by `name`.

    `stop_ids` end the reply besides the engine's own; so does the first token that completes one of `stop_strings`,
    wherever in tokens the string begins and ends. `num_tops`: the likeliest tokens of every step are kept, so many, and
    all log-probs are at temperature 1. `steering` changes what is drawn, not the log-probs.
    """

    prompt_ids: Sequence[int]
    sampling: Sampling
    seed: int = 0
    name: str = ""
    stop_ids: Sequence[int] = ()
    stop_strings: Sequence[str] = ()
    num_tops: int | None = None
    steering: Steering | None = None


Tops = list[tuple[int, float]]  # tokens with their log-probs, likeliest first


@dataclass
class Reply:
    """Token ids without the prompt, the stop token included, and each token's log-probability.

    `text` is the reply before its stop string; None if the request had no stop strings. `ids` go on to the end of the
    token in which the string was completed: they are what the model wrote, and what can be trained on.
    """

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] = "length"
    text: str | None = None
    tops: list[Tops] = field(default_factory=list)  # one entry a token, if the request asked for them

    def ends_with(self, token_id: int) -> bool:
        """Whether the last token is this one: a chat reply is finished by the end of turn, not by any stop token."""
        return bool(self.ids) and self.ids[-1] == token_id


class StopStrings:
    """Watches the text of one reply for its stop strings."""

    def __init__(self, tokenizer: TextTokenizer, strings: Sequence[str]) -> None:
        self._decoder, self._vocab_size, self._strings = IncrementalDecoder(tokenizer), tokenizer.vocab_size, strings
        self._longest = max(map(len, strings))
        self.text = ""

    def push(self, token_id: int) -> bool:
        """Add a token; whether it completed a stop string, at whose beginning `text` is then cut."""
        seen = len(self.text)
        # an embedding may have more rows than the tokenizer has tokens: those stand for nothing
        return self._add(self._decoder.push(token_id) if token_id < self._vocab_size else "", seen)

    def finish(self) -> bool:
        """Add what was held back as an incomplete character; as `push`."""
        return self._add(self._decoder.finish(), len(self.text))

    def _add(self, piece: str, seen: int) -> bool:
        self.text += piece
        start = max(0, seen - self._longest + 1)
        places = [place for string in self._strings if (place := self.text.find(string, start)) >= 0]
        if places:
            self.text = self.text[: min(places)]
        return bool(places)


def check_request(request: Request, number: int, context: int, tokenizer: TextTokenizer | None) -> None:
    """DataError for a prompt that is empty or leaves no room, and for stop strings that nobody can look for."""
    name = request.name or str(number)
    if not request.prompt_ids:
        raise DataError(f"prompt {name} is empty", hint="a prompt needs at least one token")
    if len(request.prompt_ids) >= context:
        raise DataError(
            f"prompt {name} has {len(request.prompt_ids)} tokens; the model's context is {context} tokens, "
            "reply included",
            hint="shorten the prompt (in chat: /clear), or train a model with a longer context",
        )
    if "" in request.stop_strings:
        raise DataError(f"prompt {name} has an empty stop string", hint="leave it out: it would end every reply")
    if request.stop_strings and tokenizer is None:
        raise DataError(
            f"prompt {name} has stop strings, but its tokens have no text", hint="make the Engine with a tokenizer"
        )
    if request.sampling.repetition_penalty <= 0:
        raise DataError(
            f"prompt {name}: repetition_penalty is {request.sampling.repetition_penalty}",
            hint="1 changes nothing, 1.1 is mild, 1.3 is strong",
        )
