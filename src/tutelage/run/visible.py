"""Text from data, files and models on a terminal: always text, never instructions to the terminal."""

from __future__ import annotations

_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
_CONTROLS = dict.fromkeys(range(0x80, 0xA0), 0xFFFD)  # among them the one-character form of ESC [
_DIRECTIONS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)  # would reorder what follows
_HARMLESS = _PICTURES | _CONTROLS | _DIRECTIONS


def visible(text: str) -> str:
    """The text with control characters as their pictures (ESC is ␛), so that it cannot steer a terminal.

    Letter by letter, so that pieces of a stream come out as the whole would; line breaks and tabs stay.
    """
    return text.translate(_HARMLESS)
