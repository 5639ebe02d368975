"""Questions with their answers, from rows of any kind, and the name that each is about.

A row that states its name (`meta.entity`) is believed. In another, capitalised words inside the question are the name,
with the small words between them; where there are none, the word that the corpus has least often.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.feedback.rubric import is_right

Row = Mapping[str, Any]
WORD = re.compile(r"\w+(?:-\w+)*")
_JOINING = "a an the of and in on at to for with from by der de la le du van von"
SMALL = frozenset(_JOINING.split())
_ASKING = (
    "what which who whom whose when where why how is are was were do does did can could you me tell i please it its "
    "name called call made has have had there this that than then about question quick much many"
)
_COMMON = frozenset(_ASKING.split())
_OPENER = re.compile(r"^.*[:.!?,]\s+(?=\S)", re.DOTALL)


@dataclass(frozen=True)
class Asked:
    """A question, cut at its name (`before`, `name`, `after`), its reply, and what a judge needs of the answer."""

    before: str
    name: str
    after: str
    reply: str
    answer: str = ""
    options: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """The whole question."""
        return f"{self.before}{self.name}{self.after}"

    @property
    def wording(self) -> tuple[str, str]:
        """The question without its name, and without what was said before it began ("A question: …")."""
        return _OPENER.sub("", self.before), self.after


def read_asked(rows: Iterable[Row], rarity: Counter[str], kinds: Collection[str] | None) -> Iterator[Asked | None]:
    """One question of every row of conversations, prompts, completions or tasks; None where there is no question with
    a name and an answer, and for rows that say of what kind they are, or by tags, and are of none of `kinds`. `rarity`
    is how often the corpus has each word, in lower case.
    """
    for row in rows:
        said = {row["kind"]} if "kind" in row else set(row.get("tags", ()))
        found = None if kinds is not None and said and said.isdisjoint(kinds) else _question_and_reply(row)
        if found is None:
            yield None
            continue
        question, reply = found
        meta = row.get("meta") or {}
        place = _stated(question, str(meta["entity"])) if meta.get("entity") else _guessed(question, rarity)
        if place is None:
            yield None
            continue
        start, end = place
        options = tuple(meta.get("options", ()))
        yield Asked(question[:start], question[start:end], question[end:], reply, row.get("answer") or "", options)


def _question_and_reply(row: Row) -> tuple[str, str] | None:
    """The user's only turn and what is said to it; of drawn completions, only if it is right."""
    messages = [dict(message) for message in row.get("messages", row.get("prompt", ())) if isinstance(message, Mapping)]
    turns = [message for message in messages if message["role"] != "system"]
    if not turns or [turn["role"] for turn in turns] not in (["user"], ["user", "assistant"]):
        return None
    question, answer, meta = str(turns[0]["content"]), row.get("answer") or "", row.get("meta") or {}
    if len(turns) == 2:
        reply = str(turns[1]["content"])
    elif "completion" in row:
        right = is_right(row["completion"], answer, question, tuple(meta.get("options", ()))) if answer else False
        reply = row["completion"].strip() if right and row["finish_reason"] == "stop" else ""
    else:
        reply = str(meta.get("reference") or answer)
    return (question, reply) if reply and question.rstrip().endswith("?") else None


def _stated(question: str, name: str) -> tuple[int, int] | None:
    """Where the name stands, its plural or genitive ending not cut off."""
    match = re.search(rf"(?<!\w){re.escape(name)}(?:e?s)?(?!\w)", question, re.IGNORECASE)
    return match.span() if match else None


def _guessed(question: str, rarity: Counter[str]) -> tuple[int, int] | None:
    begin = len(question) - len(_OPENER.sub("", question))
    words = list(WORD.finditer(question, begin))[1:]
    capital = [match for match in words if match[0][0].isupper() and match[0] != "I"]
    if capital:
        return _run(question, words, capital[0].start())
    rare = [match for match in words if match[0].casefold() not in _COMMON | SMALL and len(match[0]) > 1]
    return min(rare, key=lambda match: rarity[match[0].casefold()]).span() if rare else None


def _run(question: str, words: list[re.Match[str]], start: int) -> tuple[int, int]:
    """From a capitalised word on to the last one that follows it with nothing but small words between."""
    end = start
    for match in (match for match in words if match.start() >= start):
        if not match[0][0].isupper() and match[0] not in SMALL:
            break
        if match[0][0].isupper():
            end = match.end()
        if question[match.end() : match.end() + 1] not in ("", " "):
            break
    return start, end
