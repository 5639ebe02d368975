"""Users' own Python functions as tools: the definition from type hints and docstring.

A function named in a recipe is the user's code and runs in this process; the sandbox is for code that a model wrote.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tutelage.errors import RecipeError
from tutelage.tools.toolbox import NAME, Tool

_SCALARS: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_ARGUMENT = re.compile(r"^\s*(?::param\s+(?:\w+\s+)?)?(\w+)(?:\s*\([^)]*\))?\s*:\s+(.+)$")
_HEADING = re.compile(r"^\s*(Args|Arguments|Parameters|Returns|Raises|Yields|Examples?)\s*:?\s*$")


def import_tool(path: str) -> Tool:
    """The tool that `package.module:function` names. RecipeError says what stands in the way."""
    module_name, _, name = path.partition(":")
    if not module_name or not name.isidentifier():
        raise RecipeError(
            f"tool {path!r} is neither built in (calculator, python, search) nor `package.module:function`",
            hint="write for example my_tools.weather:forecast",
        )
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise RecipeError(
            f"tool {path!r}: {error}",
            hint="install the package, or set PYTHONPATH to the folder that holds it",
        ) from error
    function = getattr(module, name, None)
    if not inspect.isfunction(function):
        raise RecipeError(f"tool {path!r}: {module_name} has no function {name!r}", hint="look at its spelling")
    return tool_of(function)


def tool_of(function: Callable[..., Any]) -> Tool:
    """A function as a tool: its name, the first paragraph of its docstring, its parameters by their type hints."""
    name = function.__name__
    if not NAME.fullmatch(name):
        raise RecipeError(f"{name!r} is no name for a tool", hint="letters, digits and _, not more than 64")
    description, described = _docstring(function)
    if not description:
        raise RecipeError(f"{name} has no docstring", hint="say in one sentence what it is for: the model reads it")
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError) as error:
        raise RecipeError(f"{name}: its type hints cannot be read: {error}", hint="import what they name") from error
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        where = f"{name}({parameter.name})"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise RecipeError(f"{where} cannot be given by name", hint="give every parameter a name and a type")
        if parameter.name not in hints:
            raise RecipeError(f"{where} has no type hint", hint=f"write for example {parameter.name}: str")
        schema = _schema(hints[parameter.name], where)
        if parameter.name in described:
            schema["description"] = described[parameter.name]
        properties[parameter.name] = schema
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    parameters = {"type": "object", "properties": properties, "required": required}
    return Tool(name, description, parameters, function)


def _schema(hint: Any, where: str) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    if hint is list or origin is list:
        return {"type": "array", **({"items": _schema(arguments[0], where)} if arguments else {})}
    if hint is dict or origin is dict:
        return {"type": "object", "additionalProperties": True}
    if origin is Literal and all(type(value) in _SCALARS for value in arguments):
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType) and all(part in _SCALARS for part in arguments):
        return {"type": [_SCALARS[part] for part in arguments]}
    raise RecipeError(
        f"{where} is of type {hint}, which JSON does not have",
        hint="use str, int, float, bool, list[…], dict, Literal[…], or one of the first four | None",
    )


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The first paragraph in one line, and what is said of each parameter (`name: …`, or `:param name: …`)."""
    lines = (inspect.getdoc(function) or "").splitlines()
    first: list[str] = []
    for line in lines:
        if not line.strip() or _HEADING.match(line) or line.lstrip().startswith(":param"):
            break
        first.append(line.strip())
    names = set(inspect.signature(function).parameters)
    found = [match for line in lines[len(first) :] if (match := _ARGUMENT.match(line))]
    return " ".join(first), {match[1]: match[2].strip() for match in found if match[1] in names}
