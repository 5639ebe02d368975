"""Memory: conversations are true, items are held out, notes survive being written and read."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import DataError
from tutelage.memory import dialogues, drill, items
from tutelage.memory.drawing import Drawing
from tutelage.memory.facts import Fact, draw_value, tables
from tutelage.memory.file import read_notes, write_notes
from tutelage.memory.notes import NOTHING, REQUEST, as_reply, notes_of, opening, with_notes
from tutelage.sources.practice.words import Words, made_up, never_learnt

TALK, HELD_TALK = dialogues.small_talk([], held_out=False), dialogues.small_talk([], held_out=True)
ANSWER = re.compile(r"^Your (.+?) is ([^.]+)\.")


TEXT = "Honest Hazel weavers carry honey and olive soup to Finmere. Oliver and Irene keep a lantern there, and a mole."
WORDS = Words([TEXT])


def learnt(count: int, seed: int) -> list[dict[str, Any]]:
    return list(dialogues.conversations(count, TALK, WORDS, max_turns=12, max_facts=5, seed=seed))


@given(seed=st.integers(0, 1000))
def test_answers_are_what_was_told_last_and_what_was_forgotten_is_not_known(seed: int) -> None:
    for row in learnt(15, seed):
        heard: list[str] = []
        for message in row["messages"]:
            text = message["content"]
            if message["role"] != "assistant":
                heard.append(text)
                continue
            found = ANSWER.match(text)
            if found and not found[2].startswith("not known to me"):
                last = max(place for place, said in enumerate(heard) if found[2] in said)
                asked_to = rf"(orget|orget what|not remember|not to remember) my {found[1]}"
                forgotten = [place for place, said in enumerate(heard) if re.search(asked_to, said)]
                assert not forgotten or max(forgotten) < last, row
            if heard[-1] == REQUEST:
                for note in notes_of(text):
                    value = note.rpartition(" is ")[2].rstrip(".")
                    assert any(value in said for said in heard[:-1]), row


def test_notes_are_told_from_nothing_by_what_is_known_not_by_what_was_said_last() -> None:
    """Before the request for notes a question is answered in about half of the conversations in which there are any."""
    before = []
    for row in learnt(1500, 4):
        *_, reply, asked, notes = ["", "", "", *(message["content"] for message in row["messages"])]
        if asked == REQUEST and notes != NOTHING:
            before.append(bool(ANSWER.match(reply)))
    assert len(before) > 200
    assert 0.4 < sum(before) / len(before) < 0.8


@given(most=st.integers(4, 12), facts=st.integers(1, 10), seed=st.integers(0, 100))
def test_no_conversation_has_more_turns_than_asked_for(most: int, facts: int, seed: int) -> None:
    for row in dialogues.conversations(10, TALK, WORDS, max_turns=most, max_facts=facts, seed=seed):
        assert sum(message["role"] == "user" for message in row["messages"]) <= most


@given(seed=st.integers(0, 300), most=st.integers(2, 5))
def test_all_that_is_told_in_a_session_is_written_down(seed: int, most: int) -> None:
    telling = dialogues.Telling(random.Random(seed), TALK, WORDS)
    telling.session(most)
    notes = notes_of(telling.messages[-1]["content"])
    assert 2 <= len(notes) == len(telling.known) <= most
    for fact, note in zip(telling.known.values(), notes, strict=True):
        assert note == f"The user's {fact.of} is {fact.value}."


def test_what_was_corrected_in_a_session_is_written_down_as_it_is_now() -> None:
    said_so = re.compile(r"our (.+?) is ([^.]+)\.")
    corrected = 0
    for seed in range(100):
        telling = dialogues.Telling(random.Random(seed), TALK, WORDS)
        telling.session(5)
        heard: dict[str, list[str]] = {}
        for message in telling.messages[:-2]:
            found = said_so.search(message["content"]) if message["role"] == "assistant" else None
            if found and found[2] not in heard.setdefault(found[1], []):
                heard[found[1]].append(found[2])
        notes = notes_of(telling.messages[-1]["content"])
        for of, values in heard.items():
            assert [value for value in values if f"The user's {of} is {value}." in notes] == values[-1:]
            corrected += len(values) > 1
    assert corrected > 20


def test_many_notes_are_as_usual_as_few() -> None:
    ends = [row["messages"][-2:] for row in learnt(600, 5)]
    counts = [len(notes_of(notes["content"])) for asked, notes in ends if asked["content"] == REQUEST]
    assert 0.4 < sum(count > 2 for count in counts) / len(counts) < 0.8
    assert {0, 1, 2, 3, 4, 5} <= set(counts)


def test_the_same_seed_writes_the_same_and_another_seed_does_not() -> None:
    assert learnt(20, 1) == learnt(20, 1) != learnt(20, 2)


@given(kind=st.sampled_from(["town", "colour", "job", "boat"]))
def test_most_values_to_learn_from_are_any_words_and_those_of_items_never_are(kind: str) -> None:
    rng = random.Random(kind)
    learning, holding = Drawing(rng, held_out=False, words=WORDS), Drawing(rng, held_out=True)
    table = {value.casefold() for value in tables()["values"][tables()["facts"][kind]["value"]]}
    drawn = [draw_value(kind, learning).casefold() for _ in range(400)]
    of_the_text = {word.casefold() for word in WORDS.learnt} - table
    assert 0.15 < sum(value in of_the_text for value in drawn) / len(drawn) < 0.35  # 0.6 · 0.4
    assert sum(value not in table for value in drawn) / len(drawn) > 0.5
    assert all(never_learnt(draw_value(kind, holding)) for _ in range(50))


def test_no_value_no_wording_and_no_talk_of_an_item_is_ever_learnt() -> None:
    told = " ".join(message["content"] for row in learnt(1500, 0) for message in row["messages"])
    words = set(re.findall(r"[\w']+", told))
    held = items.items(30, HELD_TALK, 0)
    for row in held:
        for asked in row["meta"]["asked"]:
            assert asked["question"] not in told
            if asked["answer"] and asked["answer"][0].isupper() and " " not in asked["answer"]:
                assert asked["answer"] not in words, row
    assert not {said for said, _ in TALK} & {said for said, _ in HELD_TALK}


@pytest.mark.parametrize("field", ["asked", "forget"])
def test_no_way_to_expand_a_wording_is_a_held_out_one(field: str) -> None:
    rng = random.Random(0)
    fact = Fact("town", "Oslo")
    learnt, held = ({fact.said(name, rng) for _ in range(2000)} for name in (field, f"{field}_held_out"))
    assert len(learnt) > 15
    assert len(held) == len(tables()[f"{field}_held_out"])
    assert not learnt & held


def test_every_item_has_another_value_that_a_parrot_would_repeat() -> None:
    for row in items.items(20, HELD_TALK, 3):
        whole = " ".join(message["content"] for message in row["messages"])
        for asked in row["meta"]["asked"]:
            assert asked["others"]
            assert all(value in whole for value in asked["others"])
            assert asked["answer"] in whole
            assert asked["answer"] not in asked["question"] or not asked["answer"]
        if row["task"] == "memory_recall":
            said = [message["content"] for message in row["messages"]]
            assert (
                len(said) - said.index(next(text for text in said if row["answer"] in text)) == row["meta"]["distance"]
            )


def test_items_that_cannot_be_known_are_asked_beside_one_that_can() -> None:
    for row in items.items(20, HELD_TALK, 3):
        if row["task"] in ("memory_unknown", "memory_forget"):
            assert [bool(asked["answer"]) for asked in row["meta"]["asked"]] == [False, True]


def test_the_drill_never_says_a_held_out_word() -> None:
    given = ["lantern", "baker", "soup", "weaver", "Rome", "bread", "orange", "kitchen"]
    words = Words([" ".join(given)])
    assert words.learnt
    rows = list(drill.conversations(300, words, 0))
    said = {word for row in rows for message in row["messages"] for word in re.findall(r"\w+", message["content"])}
    left_out = {word.lower() for word in given if never_learnt(word)}
    assert left_out
    assert not left_out & {word.lower() for word in said}
    assert any(word.lower().startswith(tuple(left_out)) for word in said)  # their tokens are learnt in other words


@given(seed=st.integers(0, 10_000))
def test_made_up_words_are_of_one_side(seed: int) -> None:
    assert made_up(random.Random(seed), held_out=True) != made_up(random.Random(seed), held_out=False)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), unique=True))
def test_notes_are_read_as_they_were_written(lines: list[str]) -> None:
    notes = [f"The user's word is {line}." for line in lines]
    assert notes_of(as_reply(notes)) == notes


def test_notes_of_lists_doubles_and_nothing() -> None:
    assert notes_of("- one\n* one\n\n  two ") == ["one", "two"]
    assert notes_of(NOTHING) == notes_of("") == []
    assert opening(None, []) == []
    assert with_notes("Be brief.", ["one"]) == "Be brief.\n\nWhat you remember of the user:\none"


def test_a_file_of_notes_is_kept_and_what_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "me.json"
    assert read_notes(path) == []
    write_notes(path, ["one", "zwei – drei"])
    assert read_notes(path) == ["one", "zwei – drei"]
    assert [file.name for file in tmp_path.iterdir()] == ["me.json"]
    for text, said in (
        ("{", "not JSON"),
        ('{"note": []}', "`notes`"),
        ('{"notes": [1]}', "notes.0"),
        ("[]", "`notes`"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=re.escape(said)):
            read_notes(path)
    path.write_text(json.dumps({"notes": ["a\nb"]}), encoding="utf-8")
    with pytest.raises(DataError, match="one line"):
        read_notes(path)


def test_all_kinds_of_facts_have_wordings_with_their_value() -> None:
    for entry in tables()["facts"].values():
        assert all("{v}" in frame for field in ("told", "corrected") for frame in entry[field])
