"""Which language a text is in, with a calibrated probability; stop words of the kept languages."""

from __future__ import annotations

from functools import cache
from typing import Any

_GLANCE, _LOOK = 200, 1500  # characters; the walk over them is the slow part of all measuring
_SURE = 0.95

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
    """The likeliest ISO 639-1 code and its probability (py3langid's model), of a piece or, if unsure, of more."""
    begin = max(0, min(len(text) // 5, len(text) - _GLANCE))
    language, probability = _identifier().classify(text[begin : begin + _GLANCE])
    if probability < _SURE and len(text) > _GLANCE:
        language, probability = _identifier().classify(text[:_LOOK])
    return str(language), float(probability)


def known_languages() -> list[str]:
    """Every code that `identify` can give."""
    return sorted(str(code) for code in _identifier().labels)
