"""Long plain text cut at its own joints: blank lines, then line ends, then sentences, then words."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Coarse to fine; a finer joint is used only inside a piece that is longer than a document may be.
_JOINTS = [re.compile(joint) for joint in (r"\n[ \t]*\n\s*", r"\n\s*", r"(?<=[.!?…])[”\"’')]*\s+", r"\s+")]


def split_paragraphs(text: str, max_characters: int) -> Iterator[str]:
    """Documents of at most `max_characters` that end at paragraph boundaries; joined, they lack only outer whitespace.

    Paragraphs are separated by blank lines; where such a block is too long, each of its lines is a paragraph (books
    with one paragraph a line); a paragraph that is itself too long is cut between sentences, then between words.
    """
    document: list[str] = []
    length = 0
    for piece in _pieces(text, max_characters, 0):
        if length + len(piece.rstrip()) > max_characters and document:
            yield from _whole(document)
            document, length = [], 0
        document.append(piece)
        length += len(piece)
    yield from _whole(document)


def _whole(pieces: list[str]) -> Iterator[str]:
    text = "".join(pieces).strip()
    if text:
        yield text


def _pieces(text: str, limit: int, level: int) -> Iterator[str]:
    """`text` in pieces that each keep the whitespace after them; only a word longer than the limit is cut inside."""
    if level == len(_JOINTS):
        yield from (text[start : start + limit] for start in range(0, len(text), limit))
        return
    start = 0
    for end in [*(joint.end() for joint in _JOINTS[level].finditer(text)), len(text)]:
        piece = text[start:end]
        start = end
        if len(piece.rstrip()) <= limit:
            yield piece
        else:
            yield from _pieces(piece, limit, level + 1)
