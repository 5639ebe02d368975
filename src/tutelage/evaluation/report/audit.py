"""The audit of a constitution: of a few prompts the first response, and every principle, critique and revision."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tutelage.errors import ArtifactError
from tutelage.evaluation.report.facts import StageFacts
from tutelage.evaluation.report.replies import ending, fold, turns
from tutelage.evaluation.report.text import count, finite, percent

Row = Mapping[str, Any]

COMPLETIONS = Path("completions") / "completions.jsonl"
KEPT_CHAINS = 40  # read of a stage: the first that were objected to, in the order of the file
SHOWN_CHAINS = 4  # before the rest folds


def audit(stage: StageFacts) -> dict[str, Any] | None:
    """The section's content about one stage, or None where it kept no chains."""
    shown = [_chain(row) for row in read_chains(stage.folder)]
    if not shown:
        return None
    return {
        "name": stage.name,
        "course": _course(stage.metrics),
        "first": shown[:SHOWN_CHAINS],
        "rest": shown[SHOWN_CHAINS:],
    }


def read_chains(folder: Path) -> list[Row]:
    """The first rows whose replies were objected to. Raises ArtifactError for a file that cannot be read."""
    path = folder / COMPLETIONS
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8") as file:
            rows = (json.loads(line) for line in file)
            return list(islice((row for row in rows if any(map(_told, row["chain"]))), KEPT_CHAINS))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(
            f"{path}: cannot be read: {error!r}", hint=f"make it again: --from {folder.name}"
        ) from error


def _told(link: Row) -> bool:
    return bool(link["critique"])


def _course(metrics: Mapping[str, float]) -> list[dict[str, str]]:
    """The share of replies that the rules object to, by the number of revisions."""
    found = []
    for number in range(5):
        share = finite(metrics.get(f"objections_{number}/share"))
        if share is not None:
            words = "as they were" if number == 0 else f"after {count(number, 'revisions')}"
            found.append({"when": words, "share": percent(share), "width": f"{100 * share:.1f}"})
    return found


def _chain(row: Row) -> dict[str, Any]:
    links: Sequence[Row] = [link for link in row["chain"] if isinstance(link, dict) and _told(link)]
    return {
        "prompt": turns(row.get("prompt", "")),
        "response": fold(str(row.get("response", ""))),
        "links": [_link(link) for link in links],
        "untouched": len(row["chain"]) - len(links),
        "model": str(row.get("model", "")),
        "end": "" if row.get("finish_reason") == "stop" else ending(row.get("finish_reason")),
    }


def _link(link: Row) -> dict[str, Any]:
    revision = link.get("revision")
    attempts = finite(link.get("attempts"))
    return {
        "principle": str(link.get("principle", "")),
        "critic": str(link.get("critic", "")),
        "critique": fold(str(link["critique"])),
        "revision": None if revision is None else fold(str(revision)),
        "writer": str(link.get("model", "")),
        "accepted": link.get("accepted") is True,
        "attempts": count(attempts, "attempts") if attempts is not None else "",
    }
