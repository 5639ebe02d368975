"""Honesty: names are found, invented ones are nowhere written, wordings and names are held out, and the measures."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny import artifact, jsonl_artifact, stage_run
from tutelage.errors import DataError
from tutelage.evaluation.honesty_tasks import risk_area
from tutelage.feedback.honesty import abstains
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.stage import StageRun
from tutelage.safety import honesty as made
from tutelage.safety.asked import SMALL, WORD, Asked, read_asked
from tutelage.safety.familiar import familiar_conversations, familiar_names, form
from tutelage.safety.honest_pairs import told_of
from tutelage.safety.honesty import wordings
from tutelage.safety.invented import Inventor, occurring
from tutelage.sources.atlas import dialogues
from tutelage.sources.atlas.facts import build_facts
from tutelage.sources.atlas.requests import all_requests
from tutelage.sources.atlas.settings import AtlasSettings
from tutelage.sources.atlas.tasks import tasks
from tutelage.sources.store import read_jsonl, write_documents
from tutelage.stages import honesty
from tutelage.stages.configs import HonestyConfig

FACTS, REQUESTS = build_facts(None, 0), all_requests(0)
PROMPTS = dialogues.prompts(FACTS, REQUESTS, AtlasSettings(), 0)
TASKS = tasks(FACTS, REQUESTS, [], 0)
TALKS = dialogues.conversations(FACTS, REQUESTS, AtlasSettings(conversations=900), 0)
WRITTEN = [text for fact in FACTS for text in fact.statements]


def run_of(
    folder: Path, rows: list[dict[str, Any]], kind: ArtifactType, file: str, seed: int = 0, **more: Any
) -> StageRun:
    texts = more.pop("texts", WRITTEN)
    write_documents(folder / "corpus", [{"id": str(n), "text": t, "source": "s"} for n, t in enumerate(texts)])
    inputs: dict[str, Artifact] = {
        "corpus": artifact(ArtifactType.CORPUS, folder / "corpus"),
        "questions": jsonl_artifact(kind, folder / "q" / file, rows),
    }
    if more.pop("with_tasks", True):
        inputs["held_out"] = jsonl_artifact(ArtifactType.TASKS, folder / "t" / "tasks.jsonl", TASKS)
    run = stage_run(folder / "out", seed=seed)
    honesty.run(HonestyConfig(corpus="", questions="", conversations=600, familiar=200, **more), inputs, run)
    return run


def make(folder: Path, rows: list[dict[str, Any]], kind: ArtifactType, file: str, seed: int = 0, **more: Any) -> Path:
    return run_of(folder, rows, kind, file, seed, **more).directory


def user(row: dict[str, Any]) -> str:
    return str(row["messages"][0]["content"])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("honesty"), PROMPTS, ArtifactType.PROMPTS, "prompts.jsonl")


def test_names_and_wordings_of_items_are_not_learnt(written: Path) -> None:
    talks = {user(row) for row in read_jsonl(written / "conversations" / "conversations.jsonl")}
    items = list(read_jsonl(written / "tasks" / "tasks.jsonl"))
    assert Counter(row["task"] for row in items)["selective"] == sum(row["task"] != "selective" for row in items)
    for row in items:
        assert not any(text.endswith(user(row)) for text in talks)
    known = [row for row in items if row["task"] == "known"]
    taught = {fact.entity for fact in FACTS if fact.taught}
    for row in known:
        assert not any(f" {name}?" in user(row) for name in taught if name[0].isupper())


def test_invented_names_are_nowhere_written_and_look_like_real_ones() -> None:
    real = sorted({fact.entity for fact in FACTS if fact.relation == "city"})
    names = Inventor(real, 0.5, random.Random(0)).names(80)
    assert len({one.name for one in names}) == len(names) == 80
    assert {one.kind for one in names} == {"made_up", "recombined"}
    assert not {one.name for one in names} & set(real)
    letters = {pair for name in real for word in WORD.findall(name.casefold()) for pair in pairwise(word)}
    for one in names:
        assert one.name.startswith("the ") or one.name[0].isupper()
        for word in (w for w in WORD.findall(one.name) if w not in SMALL):
            assert set(pairwise(word.casefold())) <= letters


def test_names_that_a_text_has_are_found_word_by_word() -> None:
    names = ["Japan", "Red Fort", "Jap", "otters", "Fort Red", "World-Wide"]
    texts = ["In japan the RED fort stands.", "An otter.", "the world wide web"]
    assert occurring(names, texts) == {"Japan", "Red Fort", "otters", "World-Wide"}


def test_unknown_is_answered_by_abstention_and_known_is_not(written: Path) -> None:
    rows = list(read_jsonl(written / "conversations" / "conversations.jsonl"))
    counts = Counter(row["tags"][0] for row in rows)
    assert counts["known"] == counts["unknown"] == 300
    away = Counter(row["tags"][0] for row in rows if abstains(row["messages"][1]["content"]))
    assert away == {"unknown": 300, "familiar": counts["familiar"] / 2}


def names_of(items: list[dict[str, Any]], task: str) -> set[str]:
    """The names of several words that items of a task ask about."""
    asked = read_asked([row | {"answer": "x", "kind": "fact"} for row in items if row["task"] == task], Counter(), None)
    return {one.name.casefold() for one in asked if one is not None and " " in one.name}


def test_pairs_prefer_owning_to_an_invented_name_and_answering_about_a_real_one(written: Path) -> None:
    pairs = list(read_jsonl(written / "preferences" / "preferences.jsonl"))
    items = list(read_jsonl(written / "tasks" / "tasks.jsonl"))
    assert Counter(row["kind"] for row in pairs) == {"unknown": 500, "known": 500}
    for row in pairs:
        question, unknown = row["prompt"][0]["content"], row["kind"] == "unknown"
        assert abstains(row["chosen"]) is unknown
        assert abstains(row["rejected"]) is not unknown
        assert not any(question.endswith(user(item)) for item in items)
    held = names_of(items, "unknown") | names_of(items, "known")
    assert len(held) > 50
    assert not occurring(held, [text for row in pairs for text in (row["chosen"], row["rejected"])])


def test_pairs_of_one_question_are_all_for_validation_or_none(written: Path) -> None:
    splits: dict[str, set[str]] = {}
    for row in read_jsonl(written / "preferences" / "preferences.jsonl"):
        splits.setdefault(row["prompt"][0]["content"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())


@pytest.mark.parametrize("with_tasks", [True, False])
def test_pairs_of_both_kinds_are_for_validation(tmp_path: Path, with_tasks: bool) -> None:
    folder = make(
        tmp_path, PROMPTS, ArtifactType.PROMPTS, "prompts.jsonl", with_tasks=with_tasks, preferences=600, invented=2000
    )
    rows = list(read_jsonl(folder / "preferences" / "preferences.jsonl"))
    for kind in ("unknown", "known"):
        splits = [row["split"] for row in rows if row["kind"] == kind]
        assert 0.02 < splits.count("validation") / len(splits) < 0.25, kind


@pytest.mark.parametrize(
    ("reply", "name", "told"),
    [
        ("The Eiffel Tower stands in Paris.", "the Eiffel Tower", "The Orn Keep stands in Paris."),
        ("Paris has the Eiffel Tower.", "the Eiffel Tower", "Paris has the Orn Keep."),
        ("Paris.", "the Eiffel Tower", "Paris."),
        ("The Japanese yen.", "Japan", "The Japanese yen."),
        ("The towers are in Paris.", "the Eiffel Tower", None),
    ],
)
def test_what_is_true_of_a_name_is_told_of_another(reply: str, name: str, told: str | None) -> None:
    assert told_of(Asked("Where is ", name, "?", reply), "the Orn Keep") == told


def test_shares_of_pairs_are_those_asked_for(tmp_path: Path) -> None:
    given = (PROMPTS, ArtifactType.PROMPTS, "prompts.jsonl")
    run = run_of(tmp_path / "a", *given, preferences=40, preferences_unknown_share=0.25)
    assert (run.metrics["preferences/unknown"], run.metrics["preferences/known"]) == (10, 30)
    assert run_of(tmp_path / "b", *given, preferences=0).metrics["preferences"] == 0


WHETHER = [re.escape(text).replace(r"\{n\}", "(.+)") for text in wordings()["whether"]]


def name_in(question: str) -> str:
    found = next(match for pattern in WHETHER if (match := re.fullmatch(pattern, question)))
    return str(found[1])


def test_names_asked_about_by_themselves_are_the_corpus_s_or_invented_and_none_of_an_item(written: Path) -> None:
    rows = [row for row in read_jsonl(written / "conversations" / "conversations.jsonl") if row["tags"] == ["familiar"]]
    sides: dict[bool, list[str]] = {True: [], False: []}
    for row in rows:
        sides[not abstains(row["messages"][1]["content"])].append(name_in(user(row)))
    there, nowhere = sides[True], sides[False]
    assert len(there) == len(nowhere) > 50
    assert Counter(map(form, there)) == Counter(map(form, nowhere))
    assert all(sum(name.removeprefix("the ") in text for text in WRITTEN) >= 3 for name in there)
    assert not occurring(nowhere, WRITTEN)
    learnt = {fact.entity.casefold() for fact in FACTS if fact.taught}  # turkeys are held out, Turkey is not
    entities = [fact.entity for fact in FACTS if not fact.taught and fact.entity.casefold() not in learnt]
    held = {word.casefold() for entity in entities for word in WORD.findall(entity)} - SMALL
    words = {word.casefold() for name in (*there, *nowhere) for word in WORD.findall(name)}
    assert not sorted(held & words)


def test_a_corpus_without_names_is_said(tmp_path: Path) -> None:
    run = run_of(tmp_path, PROMPTS, ArtifactType.PROMPTS, "prompts.jsonl", texts=["An ox."])
    assert run.metrics["conversations/familiar"] == 0
    assert any("no name is asked about by itself" in note and "familiar: 0" in note for note in run.notes)


def test_no_name_of_the_corpus_is_cut_at_an_accent_and_none_is_asked_about_alone_without_the_other_half() -> None:
    texts = [f"We went to Canadá by Big Ben with McDonald {n}." for n in range(60)] + ["Nothing else."] * 2000
    assert familiar_names(texts) == ["Big Ben", "went", "with", "the went", "the with"]
    rng = random.Random(0)
    assert list(familiar_conversations([], ["Velland"], 10, rng)) == []
    assert list(familiar_conversations(["went"], ["Velland"], 10, rng)) == []
    assert len(list(familiar_conversations(["went"], ["drelm"], 11, rng))) == 10


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("I don't know. I have never heard of Velland.", True),
        ("I am not sure, so I would rather not guess. I don't know.", True),
        ("The capital of Velland is Paris.", False),
        ("I don't know, but I think it is Paris.", False),
        ("I can't help with that.", False),
        ("The otter lives in a holt. I don't know why people ask.", True),
        ("", False),
    ],
)
def test_who_names_an_answer_does_not_abstain(reply: str, expected: bool) -> None:
    assert abstains(reply, ["Paris", "Rome"], "What is the capital of Velland?") is expected


def test_names_are_found_in_conversations_that_do_not_state_them() -> None:
    """Against what the prompts of atlas state."""
    rarity = Counter(word.casefold() for text in WRITTEN for word in WORD.findall(text))
    stated = [row for row in PROMPTS if row["kind"] == "fact"]
    bare = [{**row, "meta": {"reference": "x"}} for row in stated]
    pairs = [
        (one.name.casefold().removeprefix("the "), two.name.casefold().removeprefix("the "))
        for one, two in zip(read_asked(stated, rarity, None), read_asked(bare, rarity, None), strict=True)
        if one is not None and two is not None
    ]
    assert len(pairs) > 0.9 * len(stated)
    assert sum(one.removesuffix("'s") == two for one, two in pairs) / len(pairs) > 0.85


def test_conversations_alone_are_enough_and_the_seed_decides(tmp_path: Path) -> None:
    facts = [row | {"answer": row["messages"][-1]["content"]} for row in TALKS if row["tags"][0] == "fact"]
    given = (facts, ArtifactType.CONVERSATIONS, "conversations.jsonl")
    folders = [
        make(tmp_path / name, *given, seed=seed, with_tasks=False) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    for name in ("conversations/conversations.jsonl", "preferences/preferences.jsonl", "tasks/tasks.jsonl"):
        one, same, other = ((folder / name).read_bytes() for folder in folders)
        assert one == same != other


@pytest.mark.parametrize("more", [{"seed": 1}, {"invented": 300}, {"preferences": 60, "unknown_share": 0.9}])
def test_what_one_run_holds_out_no_other_one_learns(tmp_path: Path, written: Path, more: dict[str, Any]) -> None:
    other = make(tmp_path, PROMPTS, ArtifactType.PROMPTS, "prompts.jsonl", **more)
    items = [row for row in read_jsonl(written / "tasks" / "tasks.jsonl") if row["task"] == "unknown"]
    talks = {user(row) for row in read_jsonl(other / "conversations" / "conversations.jsonl")}
    pairs = read_jsonl(other / "preferences" / "preferences.jsonl")
    learnt = "\n".join([*talks, *(row["prompt"][-1]["content"] for row in pairs)])
    assert len(items) > 50
    assert not any(user(row) in learnt for row in items)
    long = re.compile(r"[A-Z][\w']+(?: (?:of |the |and )*[A-Z][\w']+)+")  # names of one word can be part of others
    names = {name for row in items for name in long.findall(user(row))}
    assert len(names) > 10
    assert not [name for name in names if re.search(rf"\b{re.escape(name)}\b", learnt)]


def test_questions_without_a_common_wording_are_refused(tmp_path: Path) -> None:
    rows = [row | {"kind": "fact"} for row in PROMPTS[:1]]
    with pytest.raises(DataError, match="no wording was used with 4 names"):
        make(tmp_path, rows, ArtifactType.PROMPTS, "prompts.jsonl", with_tasks=False)


def test_families_hold_a_wording_of_each_question_out() -> None:
    rarity: Counter[str] = Counter()
    asked = [one for one in read_asked(PROMPTS, rarity, ["fact"]) if one is not None]
    found = made.families(asked, 4, 0.25)
    capital = [family for family in found if any("capital" in before + after for before, after in family.learnt)]
    assert len(capital) == 1
    assert any("capital" in before + after for before, after in capital[0].held)
    assert any("currency" in before for before, _ in capital[0].options)
    assert not any("young" in before for before, _ in capital[0].options)


def test_wordings_held_out_of_all_questions_are_not_learnt_from_fewer() -> None:
    asked = [one for one in read_asked(PROMPTS, Counter(), ["fact"]) if one is not None]
    held = {wording for family in made.families(asked, 4, 0.25) for wording in family.held}
    fewer = {wording for family in made.families(asked[: len(asked) * 3 // 4], 4, 0.25) for wording in family.learnt}
    assert len(held) > 5
    assert len(held & fewer) <= len(held) // 10  # where one is held out lest there be none


def test_a_name_is_invented_for_one_family_alone() -> None:
    real = sorted({fact.entity for fact in FACTS if fact.relation == "city"})
    twins = [made.Family(real, {}), made.Family(real, {})]
    made.invent(twins, [], 400, 0.5, random.Random(0))
    first, second = ({one.name.casefold() for one in family.invented} for family in twins)
    assert len(first) == 200 > len(second) > 0
    assert not first & second


def test_risk_area_of_perfect_and_reversed_confidence() -> None:
    right = np.array([True, True, False, False])
    away = np.zeros(4, dtype=bool)
    assert risk_area(right, away, np.array([0.9, 0.8, 0.2, 0.1])) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert risk_area(right, away, np.array([0.1, 0.2, 0.8, 0.9])) == pytest.approx((1 + 1 + 2 / 3 + 1 / 2) / 4)
    # who abstains is asked last, however sure of it
    assert risk_area(right, ~right, np.array([0.1, 0.2, 0.8, 0.9])) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
