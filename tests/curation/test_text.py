"""Extraction, encodings, words and repetition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.curation.extract import extract, html_to_text, mend_encoding, tidy
from tutelage.curation.prose import character_metrics, line_metrics, prose_metrics
from tutelage.curation.repetition import ngram_shares
from tutelage.curation.words import WordHasher, ngrams, normal_words, split_words

FRENCH = "Ma mère est allée à la fête. À bientôt où l'été finit à Paris. Voilà."


@pytest.mark.parametrize("wrong", ["cp1252", "latin-1"])
def test_mojibake_is_undone(wrong: str) -> None:
    broken = FRENCH.encode().decode(wrong)
    assert broken != FRENCH
    assert mend_encoding(broken) == FRENCH


def test_mojibake_beside_sound_text_and_lost_bytes() -> None:
    broken = "café is sound; allÃ©e and fÃªte are broken; \ufffd is lost"
    assert mend_encoding(broken) == "café is sound; allée and fête are broken; \ufffd is lost"


@given(st.text())
def test_sound_text_is_not_mended_into_something_else_twice(text: str) -> None:
    once = mend_encoding(text)
    assert len(once) <= len(text)
    if "Ã" not in text and "Â" not in text and "â" not in text:
        assert once == text


@given(st.text())
def test_tidy_is_idempotent_and_leaves_no_control_characters(text: str) -> None:
    clean = tidy(text)
    assert tidy(clean) == clean
    assert not any(ord(c) < 32 and c not in "\n\t" for c in clean)
    clean.encode("utf-8")


def test_html_loses_navigation_and_keeps_text() -> None:
    body = "".join(f"<p>The river number {i} runs through the old town and to the sea.</p>" for i in range(8))
    head = "<head><title>Rivers</title></head>"
    html = f"<html>{head}<body><nav><a href='/'>Home</a></nav><main>{body}</main></body></html>"
    found = extract(html, "html")
    assert found.title == "Rivers"
    assert "river number 7" in found.text
    assert "Home" not in found.text


@settings(deadline=None, max_examples=50)  # the first call imports the extractor
@given(st.text(alphabet="<>/abp \"'=&;!-", max_size=60))
def test_no_html_breaks_extraction(html: str) -> None:
    html_to_text(html)


def _brute_force(text: str, n: int) -> float:
    words = normal_words(text)
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    inside = {i + k for i, gram in enumerate(grams) if grams.count(gram) > 1 for k in range(n)}
    return sum(len(words[i]) for i in inside) / max(sum(map(len, words)), 1)


@given(st.lists(st.text(alphabet="ab ", max_size=60), min_size=1, max_size=3))
def test_duplicate_ngrams_agree_with_brute_force(texts: list[str]) -> None:
    shares = ngram_shares(split_words(texts, WordHasher()))
    for n in (5, 6, 10):
        assert np.allclose(shares[f"duplicate_{n}_gram_chars"], [_brute_force(text, n) for text in texts])


def test_top_ngram_is_the_share_of_the_commonest() -> None:
    shares = ngram_shares(split_words(["aa bb x aa bb y aa bb z"], WordHasher()))
    assert shares["top_2_gram_chars"][0] == pytest.approx(12 / 15)


def test_ngrams_stay_inside_their_document() -> None:
    words = split_words(["a b c", "", "d", "e f"], WordHasher())
    grams = ngrams(words, 2)
    assert grams.documents.tolist() == [0, 0, 3]
    assert grams.starts.tolist() == [0, 1, 4]


@given(st.text(max_size=80))
def test_shares_are_shares(text: str) -> None:
    words = text.split()
    metrics = character_metrics(text, words) | line_metrics(text, len(words)) | prose_metrics(text, words, "en")
    for name in ("digits", "whitespace", "non_alphanumeric", "short_lines", "duplicate_lines", "alphabetic_words"):
        assert 0 <= metrics[name] <= 1, name
