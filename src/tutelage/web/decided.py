"""Documents that curation decided on, as a person wants to see them: the reason in words, its place in the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tutelage.curation.decontaminate import Item, items_from_tasks
from tutelage.curation.evidence import Span, evidence, item_evidence
from tutelage.curation.pipeline import CONTAMINATED, DUPLICATE, FAILED
from tutelage.curation.recorded import Recorded, cleaned_texts, read_recorded
from tutelage.curation.rules import RULES
from tutelage.errors import NotFoundError
from tutelage.evaluation.report.text import number, percent
from tutelage.run.manifest import MANIFEST
from tutelage.sources.store import read_jsonl
from tutelage.web.surveyed import Surveyed

SHOWN = 1_400  # characters of a document
BEFORE = 240  # of them before the first place that counts
REPLACED = "replaced"  # kept, but private strings were replaced
OTHERS = {
    FAILED: "nothing was left of it after extraction",
    CONTAMINATED: "it holds an item of the evaluation",
    DUPLICATE: "it repeats another document",
    REPLACED: "it was kept, its private strings were replaced",
}


def places_of(run: Surveyed, stage: str) -> tuple[Path, Path]:
    """The folders of a curate stage and of the documents that it read."""
    made = run.stage(stage).manifest
    if made is None or "documents" not in made.inputs:
        raise NotFoundError(f"{stage} has decided nothing", hint="choose a finished stage of the kind `curate`")
    return run.folder / stage, (run.folder / stage / made.inputs["documents"].path).resolve()


def recorded_of(run: Surveyed, stage: str) -> Recorded:
    """What the stage recorded, read once for as long as it is not made anew."""
    corpus, documents = places_of(run, stage)
    return _recorded(corpus, documents, (corpus / MANIFEST).stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _recorded(corpus: Path, documents: Path, changed: int) -> Recorded:
    return read_recorded(corpus, documents)


def chosen(recorded: Recorded, rule: str) -> list[int]:
    """The documents that a rule decided on, or those kept with private strings replaced."""
    if rule == REPLACED:
        return [at for at, one in enumerate(recorded.decisions) if one["kept"] and one["pii"]]
    return [at for at, one in enumerate(recorded.decisions) if one["rule"] == rule]


def shown(run: Surveyed, stage: str, recorded: Recorded, which: Sequence[int]) -> list[dict[str, Any]]:
    """Documents with the reason, their text in pieces (text, label of what is marked or ""), and what they repeat."""
    _, documents = places_of(run, stage)
    rows = cleaned_texts(documents, [recorded.places[at] for at in which], recorded.lines) if which else []
    items = _items(run, stage) if any(recorded.decisions[at]["contaminating_item"] for at in which) else {}
    found = []
    for at, row in zip(which, rows, strict=True):
        decision = recorded.decisions[at]
        item = items.get(decision["contaminating_item"])
        found.append(
            {
                "row": row,
                "decision": decision,
                "reason": reason(decision),
                "also": [name for name in decision["failed_rules"] or [] if name != decision["rule"]],
                "pieces": pieces(row["text"], marks(decision, row["text"], item)),
                "item": item,
                "keeper": _keeper(recorded, documents, decision),
                "now": "",
            }
        )
    return found


def reason(decision: Mapping[str, Any]) -> str:
    """Why it was removed, with the measure and what was allowed."""
    rule = RULES.get(decision["rule"] or "")
    if rule is None:
        if decision["rule"] == DUPLICATE:
            return f"{OTHERS[DUPLICATE]}: {percent(decision['similarity'])} of their word 5-grams are in both"
        return OTHERS.get(decision["rule"] or REPLACED, "")
    bound = "more" if rule.comparison == ">" else "less"
    return f"{rule.metric} is {number(decision['value'])}; {bound} than {decision['threshold']:g} is removed"


def marks(decision: Mapping[str, Any], text: str, item: Item | None) -> list[tuple[int, int, str]]:
    """(start, end, label) of what a decision is about."""
    rule = decision["rule"]
    if rule == "harmful":
        return [(one["start"], one["end"], one["category"]) for one in decision["harm"]]
    if rule in ("pii", None):
        return [(one["start"], one["end"], f"{one['kind']} → {one['replacement']}") for one in decision["pii"]]
    spans: list[Span] = item_evidence(item, text) if item is not None else evidence(rule, text)
    label = "evaluation item" if item is not None else RULES[rule].metric if rule in RULES else ""
    return [(start, end, label) for start, end in spans]


def pieces(text: str, marked: Sequence[tuple[int, int, str]]) -> list[tuple[str, str]]:
    """An excerpt around the first mark as (text, label); the label is "" where nothing is marked."""
    first = min((start for start, _, _ in marked), default=0)
    begin = max(0, first - BEFORE) if len(text) > SHOWN else 0
    end = min(len(text), begin + SHOWN)
    found = [("… ", "")] if begin else []
    at = begin
    for start, stop, label in sorted(marked):
        if start >= end or stop <= at:
            continue
        found += [(text[at : max(start, at)], ""), (text[max(start, at) : min(stop, end)], label)]
        at = min(stop, end)
    found += [(text[at:end], "")] + ([(" …", "")] if end < len(text) else [])
    return [piece for piece in found if piece[0]]


def _keeper(recorded: Recorded, documents: Path, decision: Mapping[str, Any]) -> dict[str, Any] | None:
    """The document that was kept in place of a duplicate."""
    if decision["duplicate_of"] is None:
        return None
    kept = (at for at, one in enumerate(recorded.decisions) if one["id"] == decision["duplicate_of"] and one["kept"])
    at = next(kept, None)
    if at is None:
        return None
    row = cleaned_texts(documents, [recorded.places[at]], recorded.lines)[0]
    return {"id": row["id"], "source": row["source"], "text": row["text"][:SHOWN], "cut": len(row["text"]) > SHOWN}


def _items(run: Surveyed, stage: str) -> dict[str, Item]:
    made = run.stage(stage).manifest
    if made is None or "tasks" not in made.inputs:
        return {}
    path = (run.folder / stage / made.inputs["tasks"].path).resolve() / "tasks.jsonl"
    return {item.id: item for item in items_from_tasks(list(read_jsonl(path)))}
