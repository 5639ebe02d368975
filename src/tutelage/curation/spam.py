"""Marks of spam and advertising: links, calls to action, stuffed keywords, shouting."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from importlib import resources
from typing import Any

from tutelage.curation.language import STOP_WORDS
from tutelage.curation.patterns import grouped

URL = re.compile(
    r"(?:https?://|www\.)[^\s<>\"')\]]+|\b[\w-]+\.(?:com|net|org|info|biz|shop|xyz|online|example)\b[^\s<>\"')\]]*"
)
_DOMAIN = re.compile(r"\.(?:com|net|org|info|biz|shop|xyz|online|example)\b|://|\bwww\.")
SHOUTED = re.compile(r"[$€£]\s?\d+[.,]99\b|!{2,}")
_WORD = re.compile(r"[^\W\d_]{3,}")
_EVERY_STOP_WORD = frozenset().union(*STOP_WORDS.values()) | {"for", "this", "from", "you", "your", "has", "its", "not"}
_SENTENCES = re.compile(r"[.!?\n]+")


@cache
def lexicon() -> tuple[re.Pattern[str], dict[str, float]]:
    """The shipped calls to action as one pattern, and the linear scorer's weights (default threshold 1)."""
    path = resources.files("tutelage.curation").joinpath("spam_lexicon.json")
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return re.compile(rf"\b(?:{grouped(raw['calls'])})\b"), raw["weights"]


def spam_metrics(text: str, words: int) -> dict[str, float]:
    """Links, calls to action a word, keyword stuffing, exclamations, and the weighted `spam_score` of them all."""
    calls, weights = lexicon()
    urls = URL.findall(text) if _DOMAIN.search(text) else []
    lines = [line for line in text.split("\n") if line.strip()]
    over_words, over_lines = 1.0 / max(words, 20), 1.0 / max(len(lines), 1)
    metrics = {
        "urls": float(len(urls)),
        "url_share": sum(map(len, urls)) / max(len(text), 1),
        "links_per_word": len(urls) * over_words,
        "link_lines": sum(1 for line in lines if URL.search(line)) * over_lines if urls else 0.0,
        "call_to_action": (len(calls.findall(text.lower())) + len(SHOUTED.findall(text))) * over_words,
        "keyword_stuffing": keyword_stuffing(text),
        "exclamations": text.count("!") / max(len(_SENTENCES.findall(text)), 1),
        "shouting": len(re.findall(r"\b[A-Z]{4,}\b", text)) * over_words,
    }
    metrics["spam_score"] = sum(weight * min(metrics[name], 1.0) for name, weight in weights.items())
    return metrics


def keyword_stuffing(text: str) -> float:
    """How far the three commonest content words fill the document: their share of all content words."""
    words = _content_words(text)
    if len(words) < 20:
        return 0.0
    return sum(count for _, count in Counter(words).most_common(3)) / len(words)


def commonest(text: str) -> list[str]:
    """The content words that `keyword_stuffing` counts."""
    return [word for word, _ in Counter(_content_words(text)).most_common(3)]


def _content_words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.lower()) if word not in _EVERY_STOP_WORD]
