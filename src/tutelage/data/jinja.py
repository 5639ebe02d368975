"""Chat templates as Jinja2 sees them: the environment that Hugging Face templates expect, sandboxed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tutelage.errors import DataError

Message = Mapping[str, Any]  # {"role": str, "content": str}
Tool = Mapping[str, Any]

# Templates may print "today". A clock would make the same data give other tokens tomorrow, and training differ from
# serving, so the date is the one that Llama 3's own template falls back to.
TEMPLATE_DATE = datetime(2024, 7, 26)


class GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks assistant text for other tools; here its body is just printed."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 declares it as an instance variable)

    def parse(self, parser: Parser) -> nodes.Node:
        """Replace the tag by its body."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def to_json(value: Any, indent: int | None = None) -> str:
    """Write `value` as JSON for a prompt: keys in their own order, no escapes for HTML or non-ASCII letters."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


@lru_cache(maxsize=16)
def compile_template(source: str) -> Template:
    """Compile a chat template; a syntax error is a `DataError`."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = TEMPLATE_DATE.strftime
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise DataError(f"the chat template cannot be compiled: {error}", hint="mend tokenizer_config.json") from error


def render_text(
    source: str,
    messages: Sequence[Message],
    *,
    tools: Sequence[Tool] | None = None,
    add_generation_prompt: bool = False,
    special_tokens: Mapping[str, str] | None = None,
) -> str:
    """Render a conversation to text; `special_tokens` are the variables `bos_token`, `eos_token`, … of the template."""
    template = compile_template(source)
    try:
        return template.render(
            messages=list(messages),
            tools=list(tools) if tools else None,
            add_generation_prompt=add_generation_prompt,
            **(special_tokens or {}),
        )
    except (TemplateError, SecurityError, TypeError) as error:
        roles = [message.get("role") for message in messages]
        raise DataError(
            f"the chat template refuses the conversation with the roles {roles}: {error}",
            hint="see which roles, and in which order, the tokenizer's chat_template allows",
        ) from error
