"""Conversations as tokens, with the tokens that are trained on: one template from training to serving.

The template is rendered with a mark in place of each message's content. What the template writes around the marks is
encoded with special tokens; the contents are encoded as ordinary text. So `<|end|>` typed by a user stays text, and
where each content lies is known, not searched for.

A tool call is the assistant speaking to a tool: inside its turn `<|tool|>` begins a call, and a turn that `<|tool|>`
begins is the tool's answer. The calls are learnt, the answers are read. A tool is shown as a signature, which has
far fewer tokens than its JSON and says the same; one whose parameters need more than names, types and what is
required is shown as its JSON (docs/decisions/0012-tools-as-signatures.md). Templates without such a token get the calls
as text in the content, and those that do not show tools get them in the system message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.data.jinja import Message, Tool, render_text, to_json
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import DataError
from tutelage.tools.calls import call_of
from tutelage.tools.text_form import tools_prompt, with_calls

DEFAULT_TEMPLATE = """\
{{- bos_token -}}
{%- if tools -%}
    {{- '<|system|>You can call these tools:\\n' -}}
    {%- for tool in tools -%}
        {%- set called = tool['function'] or tool -%}
        {%- set takes = called['parameters'] or {} -%}
        {%- if takes.keys() | reject('in', ['type', 'properties', 'required']) | list -%}
            {{- tool | tojson -}}
        {%- else -%}
            {%- set is_for = (called['description'] or '') | replace('\\n', '\\n// ') -%}
            {{- ('// ' + is_for + '\\n' if is_for else '') + called['name'] + '(' -}}
            {%- for name, kind in (takes['properties'] or {}).items() -%}
                {{- name + ('' if name in (takes['required'] or []) else '?') + ': ' -}}
                {%- set bare = kind is mapping and kind | length == 1 and kind['type'] is string -%}
                {{- kind['type'] if bare else kind | tojson -}}
                {{- '' if loop.last else ', ' -}}
            {%- endfor -%}
            {{- ')' -}}
        {%- endif -%}
        {{- '\\n' -}}
    {%- endfor -%}
    {{- '<|end|>' -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if message['role'] not in ['system', 'user', 'assistant', 'tool'] -%}
        {{- raise_exception('unknown role ' + message['role']) -}}
    {%- endif -%}
    {{- '<|' + message['role'] + '|>' + (message['content'] or '') -}}
    {%- for call in message['tool_calls'] or [] -%}{{- '<|tool|>' + call['function'] | tojson -}}{%- endfor -%}
    {{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""

_MARK = re.compile("TutelageText([0-9]+)x")


@dataclass(frozen=True)
class Rendered:
    """A conversation as tokens, one entry a token in each list."""

    ids: list[int]
    loss_mask: list[bool]  # assistant contents, the calls in their turns, and the end of each of these turns
    roles: list[str]  # whose content the token is; "" for what the template writes

    @property
    def num_trained(self) -> int:
        """How many tokens are trained on."""
        return sum(self.loss_mask)


def render(
    tokenizer: TextTokenizer,
    messages: Sequence[Message],
    tools: Sequence[Tool] | None = None,
    add_generation_prompt: bool = False,
) -> Rendered:
    """Token ids of a conversation and the mask of what is learnt from it.

    With `add_generation_prompt` the ids end where the assistant's next reply begins. `DataError` for messages that
    are not `{role, content, tool_calls?}`, for roles that the template refuses, for templates that rewrite contents.
    """
    messages = [_with_calls(message) for message in messages]
    if tokenizer.begin_call_id is None:
        messages = [_as_text(message) for message in messages]
    if tools and not tokenizer.special_tokens.shows_tools:
        messages, tools = _told_tools(messages, tools), None
    marks = _Marks(tokenizer)
    marked_messages = [marks.mark_message(message) for message in messages]
    marked_tools = [marks.mark_special(tool) for tool in tools] if tools else None
    variables = tokenizer.special_tokens.template_variables
    template = _template(tokenizer)
    marked = render_text(
        template,
        marked_messages,
        tools=marked_tools,
        add_generation_prompt=add_generation_prompt,
        special_tokens=variables,
    )
    whole = render_text(
        template, messages, tools=tools, add_generation_prompt=add_generation_prompt, special_tokens=variables
    )
    return _encode(tokenizer, list(_split(marked, whole, marks)))


def _with_calls(message: Message) -> Message:
    """The message with its calls in one form: name and arguments as an object, in this order."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    if message.get("role") != "assistant" or not isinstance(calls, list):
        raise DataError(
            f"tool calls must be a list in a message of the assistant, not {calls!r:.80} of {message.get('role')!r}",
            hint='write {"role": "assistant", "content": "", "tool_calls": […]}',
        )
    return {**message, "tool_calls": [call_of(call).to_json() for call in calls]}


def _as_text(message: Message) -> Message:
    """The message with its calls written into its content."""
    if not message.get("tool_calls"):
        return message
    content = with_calls(message.get("content") or "", [call_of(call) for call in message["tool_calls"]])
    return {**{key: value for key, value in message.items() if key != "tool_calls"}, "content": content}


def _told_tools(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """The messages with the tools in the system message, which is made if there is none."""
    prompt, first = tools_prompt(tools), messages[0] if messages else {}
    if first.get("role") == "system":
        return [{**first, "content": f"{first['content']}\n\n{prompt}"}, *messages[1:]]
    return [{"role": "system", "content": prompt}, *messages]


def _template(tokenizer: TextTokenizer) -> str:
    if tokenizer.chat_template is None:
        raise DataError(
            "the tokenizer has no chat template, so conversations cannot be rendered",
            hint="use the tokenizer of an instruct model, or add chat_template to tokenizer_config.json",
        )
    return tokenizer.chat_template


@dataclass(frozen=True)
class _Piece:
    text: str
    role: str | None  # None: the template's own text; "": a value that must stay ordinary text


class _Marks:
    """Replaces texts by marks and remembers them: `texts[i]` and its role belong to mark number i."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.texts: list[tuple[str, str]] = []
        self._special = sorted(tokenizer.token(token_id) for token_id in tokenizer.special_ids)

    def mark_message(self, message: Message) -> dict[str, Any]:
        """The message with its content, and any other value that holds a special token's name, replaced."""
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise DataError(
                f"a message must have a text `role` and a text `content`, not {message!r:.120}",
                hint="lists of parts are to be written into the content as text",
            )
        rest = {key: self.mark_special(value) for key, value in message.items() if key not in ("role", "content")}
        return {"role": role, "content": self._mark(content, role), **rest}

    def mark_special(self, value: Any) -> Any:
        """The same value with a mark for each text, keys too, that holds a special token's name or a mark's."""
        if isinstance(value, str):
            is_special = any(token in value for token in self._special) or _MARK.search(value)
            return self._mark(value, "") if is_special else value
        if isinstance(value, dict):
            return {self.mark_special(key): self.mark_special(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [self.mark_special(entry) for entry in value]
        return value

    def _mark(self, text: str, role: str) -> str:
        self.texts.append((text, role))
        return f"TutelageText{len(self.texts) - 1}x"


def _split(marked: str, whole: str, marks: _Marks) -> Iterator[_Piece]:
    """Cut `whole` (the plain rendering) where `marked` has its marks; both must agree everywhere else.

    Templates may trim a content, write it as JSON, or begin its lines with `//`; anything else they do to it would be
    learnt without being seen.
    """
    parts = _MARK.split(marked)  # text, mark number, text, mark number, …, text
    place = len(parts[0])
    agree = whole.startswith(parts[0])
    yield _Piece(parts[0], None)
    for number, following in zip(parts[1::2], parts[2::2], strict=True):
        text, role = marks.texts[int(number)]
        forms = (text, text.rstrip(), text.lstrip(), text.strip(), to_json(text)[1:-1], text.replace("\n", "\n// "))
        form = next((form for form in forms if whole.startswith(form + following, place)), None)
        if form is None:
            agree = False
            break
        yield _Piece(form, role)
        yield _Piece(following, None)
        place += len(form) + len(following)
    if not agree or place != len(whole):
        raise DataError(
            "the chat template rewrites the content of a message, so what is trained on cannot be told",
            hint="write the content as the template would, or use a template that leaves contents as they are",
        )


def _encode(tokenizer: TextTokenizer, pieces: Sequence[_Piece]) -> Rendered:
    """All pieces as tokens; trained on are the assistant's contents, and what follows up to the end of that turn."""
    encoded = [
        tokenizer.encode_markup(piece.text) if piece.role is None else tokenizer.encode(piece.text) for piece in pieces
    ]
    trained = [0] * len(pieces)  # so many tokens from each piece's first on
    for index, piece in enumerate(pieces):
        if piece.role != "assistant":
            continue
        trained[index] = len(encoded[index])
        last = _end_of_turn(tokenizer, pieces, encoded, index + 1)
        if last is not None:
            trained[index + 1 : last] = [len(ids) for ids in encoded[index + 1 : last]]
            trained[last] = encoded[last].index(tokenizer.end_of_turn_id) + 1
    rendered = Rendered([], [], [])
    for piece, ids, count in zip(pieces, encoded, trained, strict=True):
        rendered.ids.extend(ids)
        rendered.loss_mask.extend([True] * count + [False] * (len(ids) - count))
        rendered.roles.extend([piece.role or ""] * len(ids))
    return rendered


def _end_of_turn(
    tokenizer: TextTokenizer, pieces: Sequence[_Piece], encoded: Sequence[list[int]], start: int
) -> int | None:
    """The piece of the template in which the turn ends; None if the next content begins before."""
    for index in range(start, len(pieces)):
        if pieces[index].role is None and tokenizer.end_of_turn_id in encoded[index]:
            return index
        if pieces[index].role:
            return None
    return None
