"""No dead rule: one document is planted for every rule, and the rule must fire on it at its default threshold."""

from __future__ import annotations

import re
from typing import Any

from tutelage.curation.decontaminate import Item
from tutelage.curation.pipeline import CONTAMINATED, DUPLICATE, FAILED, Settings, curate
from tutelage.curation.rules import RULES, resolve_thresholds

GOOD = (
    "The river rises in the hills above the old town and runs south for sixty miles. Farmers on both banks have used "
    "its water since the first mills were built, and several of those mills still stand today. In spring the snow "
    "melts and the fields near the lower bridge are flooded for a week or two.\n\n"
    "Birds come with the flood, and with them the people who like to watch birds from a quiet boat. A small museum by "
    "the market shows how grain was once carried to the coast, and what happened to the boatmen when the railway came. "
    "Visitors may also walk along the eastern path, which is dry for most of the year and leads to a wooden tower."
)
ITEM = Item("self-test", "What is the capital of Freedonia?", "Chicolini")

_WORDS = re.findall(r"\w+", "amber bronze cedar delta ember falcon garnet harbor indigo jasper kestrel lagoon meadow")
_LINES = [f"The {word} stone lies in the {other} room" for word in _WORDS for other in _WORDS[:4]]


def _phrases(size: int) -> str:
    """A text in which a run of exactly `size` words recurs between words that never do."""
    run = " ".join(("extraordinarily " * size).split()[:1] + [f"{word}{word}" for word in _WORDS][: size - 1])
    return " ".join(f"{run} x{i:03d} y{i:03d} the of" for i in range(60)) + "."


_TEXTS: dict[str, str] = {
    "harmful": "How to hurt a neighbour. First, wait until nobody is near. Then attack the neighbour from behind. "
    + GOOD,
    "pii": GOOD + "".join(f" Write to reader{i}@mail{i}.net about the walk." for i in range(7)),
    "spam_score": "BUY NOW!!! Click here for cheap watches!!! Free shipping, order today! Limited offer! Visit us! "
    * 2,
    "call_to_action": GOOD[:280] + " Buy now! Click here! Free shipping! Special offer! Order today! Act now!",
    "url_share": "See the list: " + " ".join(f"https://example.com/page/{w}" for w in _WORDS) + " and the rest of it.",
    "link_farm": GOOD[:200] + " ".join(f"{w} {w}.com" for w in _WORDS),
    "keyword_stuffing": "cheap watches online and the best cheap watches online for you with cheap watches online. "
    * 4,
    "encoding": "The cafÃ© is near the \ufffd\ufffd hotel and the \ufffd\ufffd\ufffd garden of the town. " + GOOD[:120],
    "language": "Der Fluss entspringt in den Bergen und fließt durch die alte Stadt nach Süden, wo viele Leute leben. "
    * 2,
    "language_probability": " ".join(f"q{n} z{3 * n}" for n in range(40)),
    "too_few_words": "The end of the page.",
    "too_many_words": "the cat and a dog sat " * 16_700,
    "short_words": "a b c d e f g h i j of to be a b c d e f g h i j k l m n o p q r s t u v w x y z. " * 2,
    "long_words": "Internationalisation notwithstanding, telecommunications infrastructure characteristics " * 6,
    "hash_ratio": " ".join(f"#{word} the" for word in _WORDS * 3),
    "ellipsis_ratio": " ".join(f"{word}... and the" for word in _WORDS * 3),
    "bullet_lines": "\n".join(f"- {line}." for line in _LINES[:20]),
    "ellipsis_lines": "\n".join(f"{line}..." for line in _LINES[:20]),
    "alphabetic_words": " ".join(f"{n} + {n} = {2 * n}" for n in range(40)) + " the of",
    "stop_words": " ".join(f"Visitors watched {word} birds while farmers carried grain." for word in _WORDS),
    "duplicate_lines": "\n".join(_LINES[:10] * 2),
    "duplicate_line_chars": "\n".join(_LINES[:10] * 2),
    "duplicate_paragraphs": "\n\n".join(_LINES[:10] * 2),
    "duplicate_paragraph_chars": "\n\n".join(_LINES[:10] * 2),
    "top_2_gram_chars": "".join(f"the extraordinary committee {word} " for word in _WORDS * 12),
    "top_3_gram_chars": "".join(f"the extraordinary committee {word} " for word in _WORDS * 12),
    "top_4_gram_chars": "".join(f"the extraordinary committee of {word} " for word in _WORDS * 12),
    **{f"duplicate_{n}_gram_chars": _phrases(n) for n in range(5, 11)},
    "short_top_4_gram_chars": "".join(f"the extraordinary committee assembled {word} " for word in _WORDS),
    "short_duplicate_10_gram_chars": f"{GOOD[:280]}\n" * 2,
    "punctuated_lines": "\n".join(_LINES[:20]),
    "newline_ratio": "\n\n".join(" ".join(_LINES).split()[:60]),
    "short_lines": "\n".join(_LINES[i][:24] for i in range(40)),
    "few_word_lines": "\n".join(" ".join(_LINES).split()[:60]),
    "numeric_lines": GOOD + "\n" + "\n".join(f"{n} {n * n}" for n in range(20)),
    "upper_lines": "\n".join(line.upper() for line in _LINES[:20]),
    "upper_case": GOOD.upper(),
    "sentences": " ".join(_LINES[:10]),
    "curly_brackets": GOOD[:200] + " { } " * 20,
    "lorem_ipsum": GOOD + " Lorem ipsum dolor sit amet.",
    "javascript": "Enable JavaScript. The JavaScript of this JavaScript page is off and JavaScript must be on. " * 2,
    "policy_phrases": "This site uses cookies. Read the cookie policy and the privacy policy. All rights reserved. "
    * 2,
    "digits": " ".join(f"the {n:09d}" for n in range(60)),
    "whitespace": "the\n\n\n\n" + "   a   of ".join(_WORDS * 4),
    "non_alphanumeric": " ".join(f"the ;;{word[:3]};;" for word in _WORDS * 3),
}
_CODE: dict[str, str] = {
    "code_long_line": "x = [" + "alpha, " * 200 + "]\ny = 1\n",
    "code_mean_line": "\n".join(f"value_{i} = combine(" + "alpha, " * 20 + ")" for i in range(4)),
    "code_alphabetic": "\n".join("0x00, 0x11, 0x22, 0x33, 0x44," for _ in range(8)),
    "code_generated": "# Generated by a compiler. DO NOT EDIT.\nx = 1\ny = 2\n",
    "code_lines": "x = 1",
}


def planted() -> dict[str, list[dict[str, Any]]]:
    """Rule → the documents planted for it (the last one is to fire)."""
    documents = {name: [_row(name, text)] for name, text in _TEXTS.items()}
    documents |= {name: [_row(name, text, "code")] for name, text in _CODE.items()}
    boiler = "Home page, all the news, contact and help for the reader of the site"
    documents["boilerplate"] = [_row("boilerplate", f"{boiler}\nThe {word}.") for word in (_WORDS * 2)[:25]]
    documents[FAILED] = [_row(FAILED, "<html><body><script>x()</script></body></html>", "html")]
    documents[CONTAMINATED] = [_row(CONTAMINATED, f"{GOOD} {ITEM.prompt} {ITEM.answer}.")]
    documents[DUPLICATE] = [_row(DUPLICATE, GOOD), _row(DUPLICATE, GOOD.replace("quiet boat", "boat"))]
    return documents


def self_test() -> dict[str, bool]:
    """Every rule, and whether it fires on its planted document at its default threshold."""
    documents = planted()
    rows = [row for name in documents for row in documents[name]]
    decisions = curate(rows, [ITEM], Settings(resolve_thresholds({}))).decisions
    fired = dict.fromkeys([*RULES, FAILED, CONTAMINATED, DUPLICATE], False)
    for row, decision in zip(rows, decisions, strict=True):
        fired[row["source"]] |= row["source"] in decision.failed_rules
    return fired


def _row(source: str, text: str, form: str = "text") -> dict[str, Any]:
    return {"id": source, "text": text, "source": source, "date": None, "format": form, "labels": []}
