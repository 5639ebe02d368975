"""Which language a text is in, with a calibrated probability; stop words of the kept languages."""

from __future__ import annotations

from functools import cache
from typing import Any

_CHARACTERS = 400  # enough for certainty; the walk over bytes is the slow part

# Function words that almost every paragraph of the language has; English is Gopher's list with a few more,
# because an encyclopaedia page may do without "that" and "have".
STOP_WORDS: dict[str, frozenset[str]] = {
    "en": frozenset(("the", "be", "to", "of", "and", "that", "have", "with", "is", "a", "in", "it", "was", "are")),
    "fr": frozenset(("le", "la", "les", "de", "des", "du", "et", "un", "une", "est", "que", "qui", "dans", "en")),
    "es": frozenset(("el", "la", "los", "las", "de", "del", "y", "un", "una", "es", "que", "en", "con", "por")),
    "de": frozenset(("der", "die", "das", "und", "ist", "ein", "eine", "zu", "den", "mit", "nicht", "von", "im")),
    "it": frozenset(("il", "lo", "la", "i", "gli", "le", "di", "e", "un", "una", "è", "che", "in", "con")),
    "pt": frozenset(("o", "a", "os", "as", "de", "do", "da", "e", "um", "uma", "é", "que", "em", "com")),
    "nl": frozenset(("de", "het", "een", "en", "van", "is", "dat", "te", "in", "met", "op", "zijn", "niet")),
}


NO_LANGUAGE = "zxx"  # what the model calls text that is none


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def identify(text: str) -> tuple[str, float]:
    """The likeliest ISO 639-1 code and its probability, from the text's beginning (py3langid's model)."""
    language, probability = _identifier().classify(text[:_CHARACTERS])
    return str(language), float(probability)


def known_languages() -> list[str]:
    """Every code that `identify` can give."""
    return sorted(str(code) for code in _identifier().labels)
