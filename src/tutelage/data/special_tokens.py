"""Which token ids begin and end documents and turns: given in our own folders, found out in foreign ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.data.jinja import render_text, to_json
from tutelage.errors import ArtifactError, DataError

PAD, BOS, EOS, END_OF_TURN = "<|pad|>", "<|bos|>", "<|eos|>", "<|end|>"
ROLES = ("system", "user", "assistant", "tool")
# the first ids of every tokenizer that we train, in this order
SPECIAL_TOKENS = (PAD, BOS, EOS, *(f"<|{role}|>" for role in ROLES), END_OF_TURN)

_ENDS_OF_DOCUMENT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")
_PROBE = "TutelageProbe"


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens by their roles, as text."""

    pad: str
    bos: str  # begins a document
    eos: str  # ends a document
    end_of_turn: str  # ends a message
    begin_call: str | None  # begins a tool call inside the assistant's turn; None: calls are written as text
    shows_tools: bool  # the chat template writes the definitions of tools
    template_variables: Mapping[str, str]  # `bos_token`, `eos_token`, … as chat templates use them


def find_special_tokens(
    vocabulary: Mapping[str, int], special: Sequence[str], config: Mapping[str, Any]
) -> SpecialTokens:
    """Read the roles from `tokenizer_config.json` and its chat template.

    `special` are the control tokens of tokenizer.json. What ends a turn is what the template writes after an
    assistant's content. A folder may use one token for several roles (SmolLM2 pads with its end of turn and has its
    turn marker as beginning of text): documents then get a token of their own, and padding one that stops nothing.
    """
    named = {key: _content(config[key]) for key in _TOKEN_KEYS if config.get(key)}
    named = {key: token for key, token in named.items() if token in vocabulary}
    special = list(dict.fromkeys([*special, *named.values()]))
    probe = _render_probe(config.get("chat_template"), named)

    end_of_turn = _first_in(probe.rpartition(_PROBE)[2], special) or named.get("eos_token")
    eos = named.get("eos_token", end_of_turn)
    if eos is None or end_of_turn is None:
        raise ArtifactError(
            "the tokenizer has no end-of-text token",
            hint="name an eos_token of the vocabulary in tokenizer_config.json",
        )
    if eos == end_of_turn:
        eos = next((token for token in _ENDS_OF_DOCUMENT if token in special), eos)
    bos = named.get("bos_token", eos)
    if probe.count(bos) > 1:  # a turn marker, not the beginning of a document
        bos = eos
    return SpecialTokens(
        _choose_pad(named.get("pad_token"), special, {bos, eos, end_of_turn}),
        bos,
        eos,
        end_of_turn,
        _find_call(config.get("chat_template"), named, special),
        _shows_tools(config.get("chat_template"), named),
        named,
    )


_TOKEN_KEYS = ("pad_token", "bos_token", "eos_token", "unk_token")


def _content(token: Any) -> str:
    return str(token["content"]) if isinstance(token, Mapping) else str(token)


def _render_probe(template: str | None, named: Mapping[str, str]) -> str:
    if template is None:
        return ""
    turns = [{"role": role, "content": _PROBE} for role in ("user", "assistant")]
    try:
        return render_text(template, turns, special_tokens=named)
    except DataError:
        return ""


def _find_call(template: str | None, named: Mapping[str, str], special: Sequence[str]) -> str | None:
    """The one token between an assistant's content and its call, if the call is `{"name": …, "arguments": …}`."""
    if template is None:
        return None
    function = {"name": _PROBE, "arguments": {}}
    turn = {"role": "assistant", "content": _PROBE, "tool_calls": [{"type": "function", "function": function}]}
    try:
        text = render_text(template, [{"role": "user", "content": ""}, turn], special_tokens=named)
    except DataError:
        return None
    between = text.partition(_PROBE)[2].partition(to_json(function))
    return between[0] if between[1] and between[0] in special else None


def _shows_tools(template: str | None, named: Mapping[str, str]) -> bool:
    """Whether the template writes the tools that it is given."""
    if template is None:
        return False
    tool = {"type": "function", "function": {"name": _PROBE, "description": "", "parameters": {"type": "object"}}}
    try:
        return _PROBE in render_text(template, [{"role": "user", "content": ""}], tools=[tool], special_tokens=named)
    except DataError:
        return False


def _first_in(text: str, tokens: Sequence[str]) -> str | None:
    """The token that occurs first; where one is the beginning of another, the longer."""
    places = [(text.find(token), -len(token), token) for token in tokens if token in text]
    return min(places)[2] if places else None


def _choose_pad(named: str | None, special: Sequence[str], taken: set[str]) -> str:
    """Padding must not be a token that is learnt: a model that is never taught its end never stops."""
    if named is not None and named not in taken:
        return named
    free = [token for token in special if token not in taken]
    for part in ("pad", "reserved", "unk"):
        for token in free:
            if part in token.lower():
                return token
    if not free:
        raise ArtifactError(
            "the tokenizer has no token to pad with that does not also end a text",
            hint="add a special token `<|pad|>` to tokenizer.json and name it pad_token in tokenizer_config.json",
        )
    return free[-1]
