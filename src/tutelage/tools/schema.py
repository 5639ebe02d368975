"""The JSON Schema of a tool's arguments: a small strict part of it, which refuses what it does not know.

Known: `type` (one or a list), `enum`, `properties`, `required`, `additionalProperties` (true or false), `items`,
`minimum`, `maximum`, `minLength`, `maxLength`, `minItems`, `maxItems`; `title`, `description`, `default` and `examples`
are read by models and people only. An object takes no properties that it does not name, unless it says so: a model
that makes an argument up must hear of it.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tutelage.errors import DataError

Schema = Mapping[str, Any]
NOTES = frozenset({"title", "description", "default", "examples"})


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


TYPES: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": _is_integer,
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}
# keyword → the type that it is about, what is compared, how a violation is worded
_BOUNDS: Mapping[str, tuple[Callable[[Any], bool], Callable[[Any], Any], bool, str]] = {
    "minimum": (_is_number, lambda value: value, True, "less than {}"),
    "maximum": (_is_number, lambda value: value, False, "more than {}"),
    "minLength": (TYPES["string"], len, True, "shorter than {} characters"),
    "maxLength": (TYPES["string"], len, False, "longer than {} characters"),
    "minItems": (TYPES["array"], len, True, "fewer than {} items"),
    "maxItems": (TYPES["array"], len, False, "more than {} items"),
}
_KNOWN = NOTES | {"type", "enum", "properties", "required", "additionalProperties", "items", *_BOUNDS}


def check_schema(schema: Any, where: str) -> None:
    """DataError, naming the place, for anything that `problems` could not judge."""
    if not isinstance(schema, Mapping):
        raise DataError(f"{where} is {schema!r:.80}, not a JSON Schema", hint='write for example {"type": "string"}')
    unknown = sorted(str(key) for key in schema if key not in _KNOWN)
    if unknown:
        near = difflib.get_close_matches(unknown[0], sorted(_KNOWN), n=1)
        raise DataError(
            f"{where}: JSON Schema's keyword {unknown[0]!r} is not known here",
            hint=f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(_KNOWN))}",
        )
    types = _types(schema)
    if not types and "enum" not in schema:
        raise DataError(f"{where} has neither `type` nor `enum`", hint=f"types: {', '.join(TYPES)}")
    for name in types:
        if name not in TYPES:
            raise DataError(f"{where}: there is no type {name!r}", hint=f"types: {', '.join(TYPES)}")
    if "enum" in schema and not (isinstance(schema["enum"], list) and schema["enum"]):
        raise DataError(f"{where}: `enum` is {schema['enum']!r:.80}", hint="write a list of values")
    for keyword in _BOUNDS:
        if keyword in schema and not _is_number(schema[keyword]):
            raise DataError(f"{where}: `{keyword}` is {schema[keyword]!r:.80}", hint="write a number")
    _check_parts(schema, where)


def _check_parts(schema: Schema, where: str) -> None:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, Mapping):
        raise DataError(f"{where}: `properties` is {properties!r:.80}", hint="write name → schema")
    if not isinstance(schema.get("additionalProperties", False), bool):
        raise DataError(f"{where}: `additionalProperties` is a schema", hint="write true or false")
    if not isinstance(required, list):
        raise DataError(f"{where}: `required` is {required!r:.80}", hint="write a list of names")
    for name in required:
        if name not in properties:
            raise DataError(
                f"{where}: `required` names {name!r}, which is no property", hint="define it or leave it out"
            )
    for name, inner in properties.items():
        check_schema(inner, f"{where}.{name}")
    if "items" in schema:
        check_schema(schema["items"], f"{where}[]")


def _types(schema: Schema) -> Sequence[str]:
    stated = schema.get("type", [])
    return stated if isinstance(stated, list) else [stated]


def problems(value: Any, schema: Schema, where: str = "arguments") -> list[str]:
    """What is wrong with a value, one sentence a problem, the first of each place only; [] if nothing is."""
    types = _types(schema)
    if types and not any(TYPES[name](value) for name in types):
        return [f"{where} is {_shown(value)}: expected {' or '.join(types)}"]
    if "enum" in schema and not any(_same(value, allowed) for allowed in schema["enum"]):
        return [f"{where} is {_shown(value)}: expected one of {', '.join(map(_shown, schema['enum']))}"]
    for keyword, (applies, measure, is_least, words) in _BOUNDS.items():
        if keyword in schema and applies(value):
            bound, size = schema[keyword], measure(value)
            if (size < bound) if is_least else (size > bound):
                return [f"{where} is {_shown(value)}: {words.format(bound)}"]
    if isinstance(value, dict):
        return _problems_of_object(value, schema, where)
    if isinstance(value, list) and "items" in schema:
        return [
            text for place, item in enumerate(value) for text in problems(item, schema["items"], f"{where}[{place}]")
        ]
    return []


def _problems_of_object(value: Mapping[str, Any], schema: Schema, where: str) -> list[str]:
    properties = schema.get("properties", {})
    found = [f"{where} has no {name!r}" for name in schema.get("required", []) if name not in value]
    for name, entry in value.items():
        if name in properties:
            found += problems(entry, properties[name], f"{where}.{name}")
        elif not schema.get("additionalProperties", False):
            near = difflib.get_close_matches(name, list(properties), n=1, cutoff=0.5)
            known = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(properties) or 'none'}"
            found.append(f"{where} has an unknown {name!r}; {known}")
    return found


def _same(value: Any, allowed: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are, 1 and true are not."""
    return value == allowed and isinstance(value, bool) == isinstance(allowed, bool)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


def coerce(value: Any, schema: Schema) -> Any:
    """The value with what can only be meant in one way made the type that the schema asks for.

    "12" → 12 and 12.0 → 12 where a number is due, 12 → "12" where a text is, "true" → true. All else stays.
    """
    types = _types(schema)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        return {name: coerce(entry, properties[name]) if name in properties else entry for name, entry in value.items()}
    if isinstance(value, list):
        return [coerce(item, schema["items"]) for item in value] if "items" in schema else value
    if len(types) != 1 or TYPES[types[0]](value):
        return value
    return _coerced(value, types[0])


def _coerced(value: Any, name: str) -> Any:
    if name == "string" and _is_number(value):
        return str(value)
    if name == "boolean" and value in ("true", "false"):
        return value == "true"
    if name == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    if name in ("integer", "number") and isinstance(value, str) and len(value) <= 40:
        for convert in (int, float):
            try:
                number = convert(value)
            except ValueError:
                continue
            if TYPES[name](number):
                return number
    return value
