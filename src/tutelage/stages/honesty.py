"""honesty: what is known is answered, what was never written is owned to: conversations, pairs, and held-out items."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from tutelage.errors import DataError
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.stage import Inputs, StageRun
from tutelage.safety import honesty
from tutelage.safety.asked import WORD, Asked, read_asked
from tutelage.safety.familiar import familiar_conversations, familiar_names, without_words_of
from tutelage.safety.honest_pairs import HonestPairs
from tutelage.safety.honesty import Family
from tutelage.sources.practice.rows import is_held_out
from tutelage.sources.store import read_documents, read_jsonl, write_jsonl
from tutelage.stages.configs import HonestyConfig

FILES = {
    ArtifactType.CONVERSATIONS: "conversations.jsonl",
    ArtifactType.PROMPTS: "prompts.jsonl",
    ArtifactType.TASKS: "tasks.jsonl",
    ArtifactType.COMPLETIONS: "completions.jsonl",
}
MAKE_OTHERS = "`questions` needs several that differ in a name alone: lower min_names, or give more of them"


def run(config: HonestyConfig, inputs: Inputs, run: StageRun) -> None:
    """Find the names in the questions, invent others, and write conversations, pairs of replies and held-out items."""
    rng = random.Random(f"{run.seed}/honesty")
    texts: list[str] = read_documents(inputs["corpus"].path)["text"].to_pylist()
    rarity = Counter(word.casefold() for text in texts for word in WORD.findall(text))
    given = [artifact for field, artifact in inputs.items() if field.partition(".")[0] == "questions"]
    asked = _read(given, rarity, config, run)
    other = _read([inputs["held_out"]], rarity, config, None) if "held_out" in inputs else []
    learnt, known = _parted(asked, other, config.held_out_share)
    found = honesty.families([*learnt, *known], config.min_names, config.held_out_share)
    if not found:
        raise DataError(f"{given[0].name}: no wording was used with {config.min_names} names", hint=MAKE_OTHERS)
    told = (text for one in [*asked, *other] for text in (one.question, one.reply))
    run.metrics["invented/occurring"] = honesty.invent(
        found, chain(texts, told), config.invented, config.recombined_share, rng
    )
    names = familiar_names(texts) if config.familiar else []
    _write(config, found, learnt, known, names, rng, run)


def _read(
    artifacts: Sequence[Artifact], rarity: Counter[str], config: HonestyConfig, run: StageRun | None
) -> list[Asked]:
    rows = list(chain.from_iterable(read_jsonl(artifact.path / FILES[artifact.type]) for artifact in artifacts))
    found = list(read_asked(rows, rarity, config.kinds))
    if run is not None:
        run.metrics["rows"], run.metrics["questions"] = len(rows), len(found) - found.count(None)
    return [one for one in found if one is not None]


def _parted(asked: Sequence[Asked], other: Sequence[Asked], share: float) -> tuple[list[Asked], list[Asked]]:
    """What is learnt, and what is measured on: about other names."""
    names = {one.name.casefold() for one in asked}
    held = set() if other else {name for name in names if is_held_out(name, share)}
    learnt = [one for one in asked if one.name.casefold() not in held]
    taught = {one.name.casefold() for one in learnt}
    return learnt, [one for one in (other or asked) if one.name.casefold() not in taught]


def _write(
    config: HonestyConfig,
    found: Sequence[Family],
    learnt: Sequence[Asked],
    known: Sequence[Asked],
    names: Sequence[str],
    rng: random.Random,
    run: StageRun,
) -> None:
    held = {wording for family in found for wording in family.held}
    plain = [one for one in learnt if one.wording not in held]
    openers = [one.before.removesuffix(one.wording[0]) for one in plain] or [""]
    measured, trained = _halves(found, config.held_out_share)
    unknown = round(config.unknown_share * config.conversations)
    held_names = [one.name for one in known]
    there = without_words_of(names, held_names)
    nowhere = without_words_of([one.name for family in trained for one in family.invented], held_names)
    rows = [
        *honesty.unknown_conversations(trained, openers, unknown, rng),
        *honesty.known_conversations(plain, config.conversations - unknown, rng),
        *familiar_conversations(there, nowhere, config.familiar, rng),
    ]
    familiar = sum(row["tags"] == ["familiar"] for row in rows)
    if config.familiar and not familiar:
        run.notes.append(
            "no name is asked about by itself: the corpus has none, in three texts or more, of the forms of the "
            "invented ones; give more text, or set familiar: 0"
        )
    rng.shuffle(rows)
    items = honesty.items(measured, known, config.items, rng)
    counts = Counter(str(row["task"]) for row in items)
    if not rows or not counts["known"] or not counts["unknown"]:
        raise DataError(
            f"{run.name}: {len(rows)} conversations, {counts['unknown']} items on invented names and "
            f"{counts['known']} on real ones: none of them may be nought",
            hint=f"{MAKE_OTHERS}; items on real names need an answer that is stated. A name is held out by its hash: "
            "of few names there may be none, so raise invented or held_out_share",
        )
    pairs = _pairs(config, trained, plain, nowhere, rng, run)
    run.metrics |= {
        "preferences": write_jsonl(run.directory / "preferences" / "preferences.jsonl", pairs),
        "conversations": write_jsonl(run.directory / "conversations" / "conversations.jsonl", rows),
        "conversations/unknown": sum(row["tags"] == ["unknown"] for row in rows),
        "conversations/familiar": familiar,
        "familiar/names": len(there),
        "invented": sum(len(family.invented) for family in found),
        "wordings": sum(len(family.options) for family in found),
        "wordings/held_out": len(held),
        "tasks": write_jsonl(run.directory / "tasks" / "tasks.jsonl", items),
        **{f"tasks/{task}": count for task, count in sorted(counts.items())},
    }


def _pairs(
    config: HonestyConfig,
    trained: Sequence[Family],
    plain: Sequence[Asked],
    nowhere: Collection[str],
    rng: random.Random,
    run: StageRun,
) -> list[dict[str, Any]]:
    """Pairs about real names and about invented ones; of those none has a word of a real name that is measured on."""
    allowed = frozenset(nowhere)
    avoiding = [replace(one, invented=[name for name in one.invented if name.name in allowed]) for one in trained]
    drawing = HonestPairs(avoiding, plain, config.validation_share, rng)
    pairs = drawing.draw(config.preferences, config.preferences_unknown_share)
    kinds = Counter(str(row["kind"]) for row in pairs)
    if config.preferences and not pairs:
        run.notes.append(
            "there are no pairs: no wording with several names has a reply about a real one; set preferences: 0"
        )
    elif config.preferences and not kinds["unknown"]:
        run.notes.append(
            "the pairs are all about real names: no reply about one could be told of an invented name, or there are "
            "too few; do not train on them alone"
        )
    run.metrics |= {f"preferences/{kind}": count for kind, count in sorted(kinds.items())}
    return pairs


def _halves(found: Sequence[Family], share: float) -> tuple[list[Family], list[Family]]:
    """The families with the invented names to measure on, and with those to learn from: the same at every seed."""

    def half(family: Family, held_out: bool) -> Family:
        names = [one for one in family.invented if is_held_out(one.name.casefold(), share) == held_out]
        return replace(family, invented=names)

    return [half(family, True) for family in found], [half(family, False) for family in found]
