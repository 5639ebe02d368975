"""YAML with line numbers, without YAML 1.1's surprises.

`1e-3` is a number, `no` is the text "no" (Norwegian, not false), dates stay text, and a key written twice is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from tutelage.errors import RecipeError

KeyPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_SCALARS = (  # the core schema of YAML 1.2, in the order in which it is tried: tag, pattern, first characters
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9][0-9_]*", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", r"<<", ["<"]),
)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, first_characters in _SCALARS:
        for character in first_characters:
            table.setdefault(character, []).append((_TAG + tag, re.compile(f"(?:{pattern})\\Z")))
    return table


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers()


@dataclass
class YamlText:
    """A parsed text: plain Python values, and the line (from 1) of every key path."""

    value: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)


def parse_yaml(text: str, name: str) -> YamlText:
    """Parse one document; `name` (a file) begins every error. Raises RecipeError with the line."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        document = YamlText(None)
        document.value = None if node is None else _Reader(name, document.lines).read(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise RecipeError(f"{name}{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise RecipeError(f"{name}: nested too deeply to be read") from error
    return document


class _Reader:
    """Turns YAML nodes into values and notes their lines."""

    def __init__(self, name: str, lines: dict[KeyPath, int]) -> None:
        self.name = name
        self.lines = lines
        self.open: list[yaml.Node] = []  # nodes being read, to notice an anchor inside itself

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if any(node is other for other in self.open):
            raise self.error(node, path, "an anchor refers to itself")
        self.open.append(node)
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = self.mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            value = [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        else:
            value = self.scalar(node, path)
        self.open.pop()
        return value

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.error(key, path, "a key must be plain text")
            if key.tag == _TAG + "merge":
                for part in self.merge_sources(item, path):
                    merged = {**part, **merged}  # as YAML says, an earlier source wins
                continue
            if key.value in own:
                first = self.lines[(*path, key.value)]
                raise self.error(key, (*path, key.value), f"written twice (first on line {first})")
            self.lines[(*path, key.value)] = key.start_mark.line + 1
            own[key.value] = self.read(item, (*path, key.value))
        return {**merged, **own}

    def merge_sources(self, node: yaml.Node, path: KeyPath) -> list[dict[str, Any]]:
        value = self.read(node, path)
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            raise self.error(node, path, "`<<` takes a mapping or a list of mappings")
        return sources

    def scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        text = node.value
        match node.tag.removeprefix(_TAG):
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" if text.isascii():
                return int(text.replace("_", ""))
            case "float":
                special = text[-3:].lower() in ("inf", "nan")
                return float(text.replace("." if special else "_", ""))
        raise self.error(node, path, f"the YAML tag {node.tag} is not supported")

    def error(self, node: yaml.Node, path: KeyPath, message: str) -> RecipeError:
        where = ".".join(str(part) for part in path)
        return RecipeError(f"{self.name}:{node.start_mark.line + 1}: {where + ': ' if where else ''}{message}")
