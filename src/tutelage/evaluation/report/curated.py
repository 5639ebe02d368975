"""The curation section: what was removed and why, how well planted defects were found, quality before and after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tutelage.errors import ArtifactError
from tutelage.evaluation.report.facts import StageFacts
from tutelage.evaluation.report.text import count, finite, number, percent

REMOVED = "curation/removed/"


def curated(stage: StageFacts) -> dict[str, Any] | None:
    """The section's content, or None for a stage that says nothing of curation."""
    removed = {name.removeprefix(REMOVED): v for name, v in stage.metrics.items() if name.startswith(REMOVED) and v > 0}
    documents_in = finite(stage.metrics.get("curation/documents_in"))
    kept = finite(stage.metrics.get("curation/documents_kept", stage.metrics.get("curation/kept")))
    top = max(removed.values(), default=1.0)
    rules = [
        {
            "rule": rule.replace("_", " "),
            "count": count(value),
            "share": percent(value / documents_in) if documents_in else "",
            "width": round(100 * value / top, 1),
        }
        for rule, value in sorted(removed.items(), key=lambda item: (-item[1], item[0]))
    ]
    content = {
        "name": stage.name,
        "in": count(documents_in) if documents_in is not None else "",
        "kept": count(kept) if kept is not None else "",
        "kept_share": percent(kept / documents_in) if kept is not None and documents_in else "",
        "lost": _share(stage.metrics.get("curation/unlabelled/share")),
        "rules": rules,
        "planted": _planted(stage.metrics),
        "factors": _factors(stage),
    }
    return content if any(content[key] for key in ("in", "rules", "planted", "factors")) else None


def _planted(metrics: Mapping[str, float]) -> list[dict[str, str]]:
    """Defects whose places were known: how many of those found were real, how many of the real were found."""
    defects = []
    for name in metrics:
        parts = name.split("/")
        if (
            len(parts) == 3
            and parts[0] == "curation"
            and parts[2] in ("precision", "recall")
            and parts[1] not in defects
        ):
            defects.append(parts[1])
    return [
        {
            "defect": defect.replace("_", " "),
            "precision": _share(metrics.get(f"curation/{defect}/precision")),
            "recall": _share(metrics.get(f"curation/{defect}/recall")),
        }
        for defect in sorted(defects)
    ]


def _share(value: float | None) -> str:
    known = finite(value)
    return "–" if known is None else percent(known)


def _factors(stage: StageFacts) -> list[dict[str, str]]:
    """Quality factors before and after, from the `curation.json` beside the corpus."""
    path = stage.folder / "curation.json"
    if not path.exists():
        return []
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        before, after = about["quality"]["before"], about["quality"]["after"]
        names = [name for name in before if name != "documents"]  # a count, told already
        return [
            {
                "factor": name.replace("_", " "),
                "before": number(finite(before[name])),
                "after": number(finite(after.get(name))),
            }
            for name in names
            if finite(before[name]) is not None or finite(after.get(name)) is not None
        ]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error!r}", hint=f"make it again: --from {stage.name}") from error
