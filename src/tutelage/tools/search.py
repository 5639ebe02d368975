"""Search over a corpus: SQLite's FTS5, best passages first by BM25 (Robertson & Zaragoza 2009)."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tutelage.errors import ResourceError

MAX_WORDS = 32  # of a query that are looked for
PASSAGE_WORDS = 40  # shown of a document, around what was found
_WORD = re.compile(r"\w+")
_COLUMNS = "id UNINDEXED, title, text"
_TITLE_WEIGHT = 2.0  # a word in the title says more about a document than one in its text


@dataclass(frozen=True)
class Passage:
    """The part of a document that fits a query best."""

    document: str
    title: str
    text: str


class SearchIndex:
    """Documents by their words, in memory. Every query is words: nothing in it is taken for FTS5's operators."""

    def __init__(self, documents: Iterable[Mapping[str, Any]]) -> None:
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        try:
            self._connection.execute(
                f"CREATE VIRTUAL TABLE documents USING fts5({_COLUMNS}, tokenize = 'porter unicode61')"
            )
        except sqlite3.OperationalError as error:
            raise ResourceError(
                f"this Python's SQLite cannot search texts: {error}",
                hint="use a Python whose sqlite3 has FTS5, or leave the tool `search` out",
            ) from error
        with self._connection:
            self._connection.executemany(
                "INSERT INTO documents VALUES (?, ?, ?)",
                ((row["id"], row.get("title") or "", row["text"]) for row in documents),
            )

    def __len__(self) -> int:
        with closing(self._connection.execute("SELECT count(*) FROM documents")) as rows:
            return int(rows.fetchone()[0])

    def search(self, query: str, count: int = 3) -> list[Passage]:
        """The best `count` passages, of documents that have any of the query's words; those with rarer words first."""
        words = list(dict.fromkeys(word.lower() for word in _WORD.findall(query)))[:MAX_WORDS]
        if not words:
            return []
        order = f"bm25(documents, 0.0, {_TITLE_WEIGHT}, 1.0), id"
        passage = f"snippet(documents, 2, '', '', ' … ', {PASSAGE_WORDS})"
        rows = self._connection.execute(
            f"SELECT id, title, {passage} FROM documents WHERE documents MATCH ? ORDER BY {order} LIMIT ?",
            (" OR ".join(f'"{word}"' for word in words), count),
        )
        return [Passage(document, title, " ".join(text.split())) for document, title, text in rows]
