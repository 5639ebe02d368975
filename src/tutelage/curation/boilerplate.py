"""Lines that recur in very many documents of one source: navigation, notices, footers."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

_BLANKS = re.compile(r"\n{3,}")


def recurring_lines(
    texts: Sequence[str], sources: Sequence[str], *, min_documents: int, min_share: float
) -> dict[str, set[str]]:
    """Source → its lines found in at least `min_documents` documents and `min_share` of that source's documents."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    sizes: Counter[str] = Counter(sources)
    for text, source in zip(texts, sources, strict=True):
        counts[source].update({line.strip() for line in text.split("\n")} - {""})
    return {
        source: {line for line, count in lines.items() if count >= max(min_documents, min_share * sizes[source])}
        for source, lines in counts.items()
    }


def remove_lines(text: str, lines: set[str]) -> tuple[str, int]:
    """`text` without `lines`, and how many characters went."""
    if not lines:
        return text, 0
    kept, removed = [], 0
    for line in text.split("\n"):
        if line.strip() in lines:
            removed += len(line)
        else:
            kept.append(line)
    if not removed:
        return text, 0
    return _BLANKS.sub("\n\n", "\n".join(kept)).strip(), removed
