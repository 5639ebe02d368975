"""A model's words on a terminal: always text, never instructions to the terminal."""

from __future__ import annotations

from tutelage.run.visible import visible

__all__ = ["one_line", "visible"]


def one_line(text: str) -> str:
    r"""As `visible`, with line breaks written as `\n`."""
    return visible(text).replace("\n", "\\n")
