"""The rules: plain data over the metrics table. Deciding is a pure function: a new threshold measures nothing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.curation.language import NO_LANGUAGE, STOP_WORDS
from tutelage.errors import RecipeError

Row = Mapping[str, float | str]  # one document's metrics; also `format` and `language`

PROSE = ("text", "markdown", "html")
LONG = 300  # words
SPLITTER = "words-1"  # whitespace words for counts, \w+ of the lower-cased text for n-grams


@dataclass(frozen=True)
class Rule:
    """Remove a document whose `metric` is `comparison` the threshold.

    `formats` and `languages` limit where it applies (empty: everywhere); `min_words` keeps a measure that is
    meaningless on a few words from being used there.
    """

    name: str
    metric: str
    comparison: Literal["<", ">"]
    threshold: float
    formats: tuple[str, ...] = PROSE
    languages: tuple[str, ...] = ()
    min_words: int = 0
    version: int = 1

    def applies(self, row: Row) -> bool:
        """Whether this rule judges documents like `row`."""
        return (
            (not self.formats or row["format"] in self.formats)
            and (not self.languages or row["language"] in self.languages)
            and float(row["words"]) >= self.min_words
        )

    def fails(self, row: Row, threshold: float) -> bool:
        """Whether `row` is to be removed at this threshold."""
        value = float(row[self.metric])
        return value < threshold if self.comparison == "<" else value > threshold


_RULES = (
    # what must not be learnt comes first: it is the deciding rule where several fail
    Rule("harmful", "harm_score", ">", 0.85),
    Rule("pii", "pii_spans", ">", 5, formats=()),
    Rule("encoding", "mojibake", ">", 0.2),
    # Gopher quality
    Rule("too_few_words", "words", "<", 20),
    Rule("too_many_words", "words", ">", 100_000),
    Rule("short_words", "mean_word_length", "<", 3),
    Rule("long_words", "mean_word_length", ">", 10),
    Rule("hash_ratio", "hash_ratio", ">", 0.1),
    Rule("ellipsis_ratio", "ellipsis_ratio", ">", 0.1),
    Rule("bullet_lines", "bullet_lines", ">", 0.9),
    Rule("ellipsis_lines", "ellipsis_lines", ">", 0.3),
    Rule("alphabetic_words", "alphabetic_words", "<", 0.5),
    Rule("stop_words", "stop_words", "<", 2, languages=(*STOP_WORDS, NO_LANGUAGE)),
    # Gopher repetition
    Rule("duplicate_lines", "duplicate_lines", ">", 0.3),
    Rule("duplicate_line_chars", "duplicate_line_chars", ">", 0.2),
    Rule("duplicate_paragraphs", "duplicate_paragraphs", ">", 0.3),
    Rule("duplicate_paragraph_chars", "duplicate_paragraph_chars", ">", 0.2),
    # Gopher set these on long web pages; a page of a hundred words about one thing names it in every sentence
    Rule("top_2_gram_chars", "top_2_gram_chars", ">", 0.2, min_words=LONG),
    Rule("top_3_gram_chars", "top_3_gram_chars", ">", 0.18, min_words=LONG),
    Rule("top_4_gram_chars", "top_4_gram_chars", ">", 0.16, min_words=LONG),
    *(
        Rule(f"duplicate_{n}_gram_chars", f"duplicate_{n}_gram_chars", ">", threshold, min_words=LONG)
        for n, threshold in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1))
    ),
    Rule("short_top_4_gram_chars", "top_4_gram_chars", ">", 0.5),
    Rule("short_duplicate_10_gram_chars", "duplicate_10_gram_chars", ">", 0.65),
    Rule("language", "unwanted_language", ">", 0.8, min_words=15),
    Rule("language_probability", "language_probability", "<", 0.65, min_words=30),
    # spam and advertising
    Rule("spam_score", "spam_score", ">", 1.0),
    Rule("call_to_action", "call_to_action", ">", 0.06),
    Rule("url_share", "url_share", ">", 0.2),
    Rule("link_farm", "links_per_word", ">", 0.1),
    Rule("keyword_stuffing", "keyword_stuffing", ">", 0.6),
    # lines and characters
    Rule("punctuated_lines", "punctuated_lines", "<", 0.12, min_words=100),
    Rule("newline_ratio", "newline_ratio", ">", 0.3),
    Rule("short_lines", "short_lines", ">", 0.67, min_words=30),
    Rule("few_word_lines", "few_word_lines", ">", 0.6, min_words=30),
    Rule("numeric_lines", "numeric_lines", ">", 0.5),
    Rule("upper_lines", "upper_lines", ">", 0.5),
    Rule("upper_case", "upper_case", ">", 0.4),
    Rule("sentences", "sentences", "<", 1),
    Rule("curly_brackets", "curly_brackets", ">", 0.1),
    Rule("lorem_ipsum", "lorem_ipsum", ">", 0),
    Rule("javascript", "javascript", ">", 0.1),
    Rule("policy_phrases", "policy_phrases", ">", 0.05),
    Rule("boilerplate", "boilerplate_share", ">", 0.8),
    Rule("digits", "digits", ">", 0.3),
    Rule("whitespace", "whitespace", ">", 0.3),
    Rule("non_alphanumeric", "non_alphanumeric", ">", 0.25),
    # code
    Rule("code_long_line", "longest_line", ">", 1000, formats=("code",)),
    Rule("code_mean_line", "mean_line", ">", 100, formats=("code",)),
    Rule("code_alphabetic", "alphabetic", "<", 0.25, formats=("code",)),
    Rule("code_generated", "generated_marks", ">", 0, formats=("code",)),
    Rule("code_lines", "lines", "<", 2, formats=("code",)),
)

RULES: dict[str, Rule] = {rule.name: rule for rule in _RULES}


@dataclass(frozen=True)
class Verdict:
    """Which rules a document fails, in the order of RULES; the first decides."""

    failed: tuple[str, ...]
    value: float | None = None
    threshold: float | None = None


def resolve_thresholds(overrides: Mapping[str, float]) -> dict[str, float]:
    """Every rule's threshold, `overrides` laid over the defaults; an unknown name is an error naming the nearest."""
    for name in overrides:
        if name not in RULES:
            nearest = difflib.get_close_matches(name, RULES, n=1, cutoff=0.0)
            raise RecipeError(
                f"thresholds.{name}: there is no such rule",
                hint=f"did you mean {nearest[0]}? rules: {', '.join(RULES)}",
            )
    return {name: float(overrides.get(name, rule.threshold)) for name, rule in RULES.items()}


def decide(metrics: Sequence[Row], thresholds: Mapping[str, float]) -> list[Verdict]:
    """Judge measured documents by `thresholds` (rule name → value; only the rules named there are applied)."""
    rules = [(RULES[name], thresholds[name]) for name in RULES if name in thresholds]
    return [_judge(row, rules) for row in metrics]


def _judge(row: Row, rules: Sequence[tuple[Rule, float]]) -> Verdict:
    failed = [(rule, limit) for rule, limit in rules if rule.fails(row, limit) and rule.applies(row)]
    if not failed:
        return Verdict(())
    rule, limit = failed[0]
    return Verdict(tuple(rule.name for rule, _ in failed), float(row[rule.metric]), limit)
