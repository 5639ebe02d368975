"""Reading cards from YAML files and folders; what is wrong is named with file, line, field and value."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tutelage.errors import DataError
from tutelage.personas.cards import Card
from tutelage.run.strict_yaml import read_yaml

HINT = f"a card has {', '.join(Card.model_fields)}; docs/stages/persona.md shows one"


def read_cards(paths: Sequence[Path]) -> list[Card]:
    """The cards of files and of folders of `.yaml` files. Raises DataError; a name in two files is one, too."""
    found: dict[str, tuple[Card, Path]] = {}
    for path in [file for given in paths for file in _files(given)]:
        card = read_yaml(path, Card, HINT)
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
