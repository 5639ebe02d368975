"""Where in a text a rule's measure comes from, for people who look: the same patterns that measured it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from tutelage.curation.decontaminate import LONG, Item
from tutelage.curation.prose import DIGITS, GENERATED, LINES, MOJIBAKE, POLICY, SYMBOL, UPPER
from tutelage.curation.rules import RULES
from tutelage.curation.spam import SHOUTED, URL, commonest, lexicon
from tutelage.curation.words import WORD, normal_words

Span = tuple[int, int]  # characters start:end

_PIECES = {"lines": re.compile(r"[^\n]+"), "paragraphs": re.compile(r"(?:[^\n]|\n(?!\n))+")}
_GRAM = re.compile(r"(top|duplicate)_(\d+)_gram_chars")


def evidence(rule: str, text: str) -> list[Span]:
    """The spans that a rule's measure counts, in order; none where it measures the document as a whole.

    For a rule that asks for more (lines with punctuation) the spans are those that lack it.
    """
    metric = RULES[rule].metric if rule in RULES else ""
    grams = _GRAM.fullmatch(metric)
    if grams:
        return _repeated_grams(text, int(grams[2]), only_top=grams[1] == "top")
    if metric in LINES:
        wanted = RULES[rule].comparison == ">"
        return [span for span, line in _pieces(text, "lines") if LINES[metric](line) == wanted]
    if metric.startswith(("duplicate_line", "duplicate_paragraph")):
        return _repeated(list(_pieces(text, "lines" if "line" in metric else "paragraphs")))
    found = _FOUND.get(metric)
    return merged(found(text)) if found else []


def item_evidence(item: Item, text: str) -> list[Span]:
    """Where a document holds an evaluation item: question and answer, or runs of as many words as are looked for."""
    spans: list[Span] = []
    for part in (item.prompt, item.answer):
        words = normal_words(part)
        runs = [words[start : start + LONG] for start in range(max(len(words) - LONG, 0) + 1)] if words else []
        for run in runs:
            spans += _matches(re.compile(r"\b" + r"\W+".join(map(re.escape, run)) + r"\b", re.IGNORECASE))(text)
    return merged(spans)


def merged(spans: Iterable[Span]) -> list[Span]:
    """In order, those that touch as one."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        elif end > start:
            joined.append((start, end))
    return joined


def _matches(pattern: re.Pattern[str]) -> Callable[[str], list[Span]]:
    return lambda text: [match.span() for match in pattern.finditer(text)]


def _lowered(pattern: re.Pattern[str]) -> Callable[[str], list[Span]]:
    """A few capital letters become two when lowered; then the text is searched as it is."""

    def find(text: str) -> list[Span]:
        lowered = text.lower()
        return _matches(pattern)(lowered if len(lowered) == len(text) else text)

    return find


def _calls(text: str) -> list[Span]:
    return _lowered(lexicon()[0])(text) + _matches(SHOUTED)(text)


def _stuffed(text: str) -> list[Span]:
    words = commonest(text)
    return _matches(re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b", re.IGNORECASE))(text) if words else []


def _pieces(text: str, kind: str) -> Iterator[tuple[Span, str]]:
    for match in _PIECES[kind].finditer(text):
        piece = match.group().strip()
        if piece:
            start = match.start() + match.group().index(piece)
            yield (start, start + len(piece)), piece


def _repeated(pieces: Sequence[tuple[Span, str]]) -> list[Span]:
    """All but the first of equal pieces."""
    seen: set[str] = set()
    spans = []
    for span, piece in pieces:
        if piece in seen:
            spans.append(span)
        seen.add(piece)
    return spans


def _repeated_grams(text: str, size: int, only_top: bool) -> list[Span]:
    words = [(match.span(), match.group().lower()) for match in WORD.finditer(text)]
    grams = [tuple(word for _, word in words[at : at + size]) for at in range(len(words) - size + 1)]
    counts = Counter(grams)
    often = {gram for gram, count in counts.items() if count > 1}
    chosen = set(dict(counts.most_common(1))) & often if only_top else often
    return merged((words[at][0][0], words[at + size - 1][0][1]) for at, gram in enumerate(grams) if gram in chosen)


_FOUND: dict[str, Callable[[str], list[Span]]] = {
    "mojibake": _matches(MOJIBAKE),
    "hash_ratio": _matches(re.compile("#+")),
    "ellipsis_ratio": _matches(re.compile(r"\.\.\.|…")),
    "curly_brackets": _matches(re.compile("[{}]+")),
    "lorem_ipsum": _lowered(re.compile("lorem ipsum")),
    "javascript": _lowered(re.compile("javascript")),
    "policy_phrases": _lowered(POLICY),
    "generated_marks": _lowered(GENERATED),
    "url_share": _matches(URL),
    "links_per_word": _matches(URL),
    "call_to_action": _calls,
    "spam_score": lambda text: [*_calls(text), *_matches(URL)(text)],
    "keyword_stuffing": _stuffed,
    "digits": _matches(DIGITS),
    "upper_case": _matches(UPPER),
    "non_alphanumeric": _matches(SYMBOL),
}
