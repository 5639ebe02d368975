"""Reading cards from YAML files and folders; what is wrong is named with file, line, field and value."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from tutelage.errors import DataError, RecipeError
from tutelage.personas.cards import Card
from tutelage.run.words import describe, dotted, explain
from tutelage.run.yaml_text import KeyPath, YamlText, parse_yaml

HINT = f"a card has {', '.join(Card.model_fields)}; docs/stages/persona.md shows one"


def read_cards(paths: Sequence[Path]) -> list[Card]:
    """The cards of files and of folders of `.yaml` files. Raises DataError; a name in two files is one, too."""
    found: dict[str, tuple[Card, Path]] = {}
    for path in [file for given in paths for file in _files(given)]:
        card = _read(path)
        if card.name in found:
            raise DataError(
                f"{path}: name: {found[card.name][1]} is the card of {card.name!r} already",
                hint="give one of the two another name, or leave it out",
            )
        found[card.name] = card, path
    return [card for card, _ in found.values()]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
    if not files:
        raise DataError(f"{path}: no cards in this folder", hint="put one .yaml file for each persona into it")
    return files


def _read(path: Path) -> Card:
    try:
        document = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}", hint="name a YAML file with a card, or a folder") from error
    except RecipeError as error:
        raise DataError(error.message, hint="mend the line") from error
    if not isinstance(document.value, dict):
        raise DataError(f"{path}: expected a card, got {describe(document.value)}", hint=HINT)
    return _checked(document, path)


def _checked(document: YamlText, path: Path) -> Card:
    """The card, or all that is wrong with it at once."""
    try:
        return Card.model_validate(document.value)
    except ValidationError as error:
        problems = [f"{_where(document, path, at)}: {what}" for at, what in explain(error, Card, document.value)]
    if len(problems) == 1:
        raise DataError(problems[0], hint=HINT)
    listed = "\n".join(f"  {problem}" for problem in problems)
    raise DataError(f"{path}: {len(problems)} problems\n{listed}", hint=HINT)


def _where(document: YamlText, path: Path, at: KeyPath) -> str:
    lines = document.lines
    line = next((lines[at[:length]] for length in range(len(at), 0, -1) if at[:length] in lines), None)
    return f"{path}{f':{line}' if line else ''}{f': {dotted(at)}' if at else ''}"
