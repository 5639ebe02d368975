"""Precision and recall on labelled data: what curation did against the defects that were planted."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.curation.pipeline import CONTAMINATED, DUPLICATE, FAILED, Curated, Decision
from tutelage.curation.rules import RULES

SPAM_RULES = frozenset(("spam_score", "call_to_action", "url_share", "link_farm", "keyword_stuffing"))
_OWN_RULES: dict[str, frozenset[str]] = {
    "spam": SPAM_RULES,
    "harmful": frozenset(("harmful",)),
    "language": frozenset(("language", "language_probability")),
    "leak": frozenset((CONTAMINATED,)),
    "duplicate": frozenset((DUPLICATE,)),
}
RULES_OF: dict[str, frozenset[str]] = {
    **_OWN_RULES,
    "low_quality": (frozenset(RULES) - frozenset().union(*_OWN_RULES.values()) - {"pii", "encoding"}) | {FAILED},
}
LABELS_OF = {"spam": ("spam", "ad"), "duplicate": ("duplicate", "near_duplicate")}
_TRACE = re.compile(r"[\d@]")

Scores = dict[str, dict[str, float]]


def evaluate(rows: Sequence[Mapping[str, Any]], curated: Curated) -> Scores:
    """Defect → precision, recall, planted, found, false; defects that were not planted are left out.

    A defect counts as found where the document fails one of its rules, or was removed for another defect that it
    carries too. Precision looks at the deciding rule. A removal for low quality is right if any defect is labelled.
    """
    labels = [frozenset(row["labels"] or ()) for row in rows]
    if not any(labels):
        return {}
    scores = {}
    for defect in ("spam", "harmful", "low_quality", "language", "leak"):
        scores[defect] = _by_rule(defect, labels, curated.decisions)
    scores["duplicate"] = _duplicates(labels, curated.decisions)
    scores["encoding"] = _encoding(labels, curated)
    scores["boilerplate"] = _boilerplate(labels, curated)
    scores["pii"] = _pii(labels, curated)
    whole = [i for i, own in enumerate(labels) if not any(not label.startswith("pii:") for label in own)]
    lost = sum(not curated.decisions[i].kept for i in whole)
    result = {defect: score for defect, score in scores.items() if score["planted"] or score["false"]}
    result["unlabelled"] = {"documents": float(len(whole)), "removed": float(lost), "share": lost / max(len(whole), 1)}
    return result


def _defects(own: frozenset[str]) -> set[str]:
    """The defects among labels: `cluster:` only says that copies exist, and private strings are replaced."""
    return {label for label in own if not label.startswith(("cluster:", "pii:"))}


def _score(found: int, planted: int, right: int, false: int) -> dict[str, float]:
    return {
        "precision": right / (right + false) if right + false else 1.0,
        "recall": found / planted if planted else 1.0,
        "planted": float(planted),
        "found": float(found),
        "false": float(false),
    }


def _removed_for(own: frozenset[str], decision: Decision) -> bool:
    """Whether the document was removed for a defect that it carries."""
    failed = set(decision.failed_rules)
    return any(
        failed & rules and own.intersection(LABELS_OF.get(defect, (defect,))) for defect, rules in RULES_OF.items()
    )


def _by_rule(defect: str, labels: Sequence[frozenset[str]], decisions: Sequence[Decision]) -> dict[str, float]:
    found = planted = right = false = 0
    for own, decision in zip(labels, decisions, strict=True):
        carries = bool(own.intersection(LABELS_OF.get(defect, (defect,))))
        planted += carries
        found += carries and bool(RULES_OF[defect].intersection(decision.failed_rules) or _removed_for(own, decision))
        if decision.rule in RULES_OF[defect]:
            just = carries or (defect == "low_quality" and bool(_defects(own)))
            right, false = right + just, false + (not just)
    return _score(found, planted, right, false)


def _duplicates(labels: Sequence[frozenset[str]], decisions: Sequence[Decision]) -> dict[str, float]:
    """k − 1 members of a cluster of k are to go, whichever stays."""
    sizes: dict[str, int] = defaultdict(int)
    gone: dict[str, int] = defaultdict(int)
    right = false = 0
    for own, decision in zip(labels, decisions, strict=True):
        names = sorted(label for label in own if label.startswith("cluster:"))
        for name in names:
            sizes[name] += 1
            gone[name] += _removed_for(own, decision) or decision.rule == DUPLICATE
        if decision.rule == DUPLICATE:
            right, false = right + bool(names), false + (not names)
    planted = sum(size - 1 for size in sizes.values())
    found = sum(min(gone[name], size - 1) for name, size in sizes.items())
    return _score(found, planted, right, false)


def _encoding(labels: Sequence[frozenset[str]], curated: Curated) -> dict[str, float]:
    """Right is mended or removed; a text changed or removed for its encoding without the label is false."""
    found = planted = right = false = 0
    for i, own in enumerate(labels):
        decision = curated.decisions[i]
        acted = curated.extracted[i].repaired or decision.rule == "encoding"
        clean = not float(curated.measured[i].metrics["mojibake"])
        planted += "encoding" in own
        found += "encoding" in own and (clean or not decision.kept)
        right, false = right + (acted and "encoding" in own), false + (acted and "encoding" not in own)
    return _score(found, planted, right, false)


def _boilerplate(labels: Sequence[frozenset[str]], curated: Curated) -> dict[str, float]:
    """Right is that something was stripped (main-text extraction or recurring lines) or the document removed.

    Precision looks at recurring lines alone: extraction strips every page of its mark-up, labelled or not.
    """
    found = planted = right = false = 0
    for i, own in enumerate(labels):
        lines = curated.cleaned[i].boilerplate_share > 0
        extracted = curated.cleaned[i].format == "html" and not curated.extracted[i].fallback
        planted += "boilerplate" in own
        found += "boilerplate" in own and (lines or extracted or not curated.decisions[i].kept)
        right, false = right + (lines and "boilerplate" in own), false + (lines and "boilerplate" not in own)
    return _score(found, planted, right, false)


def _pii(labels: Sequence[frozenset[str]], curated: Curated) -> dict[str, float]:
    planted = sorted({label.split(":", 2)[2] for own in labels for label in own if label.startswith("pii:")})
    kept = [text for text, decision in zip(curated.texts, curated.decisions, strict=True) if decision.kept]
    lines = "\n".join(line for text in kept for line in text.split("\n") if _TRACE.search(line))
    everything = "\n".join(kept)
    found = sum(string not in (lines if _TRACE.search(string) else everything) for string in planted)
    known = set(planted)
    right = false = 0
    for document, one in zip(curated.cleaned, curated.measured, strict=True):
        for span in one.pii:
            string = document.text[span.start : span.end]
            # an area code or extension more or less is the same private string
            just = string in known or any(string in other or other in string for other in planted)
            right, false = right + just, false + (not just)
    return _score(found, len(planted), right, false)
