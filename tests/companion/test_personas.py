"""Personas: cards are checked, dialogues keep to them, and what is measured was never learnt."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import DataError
from tutelage.feedback.persona import answers, in_manner
from tutelage.memory.dialogues import small_talk
from tutelage.memory.drawing import Drawing
from tutelage.personas import dialogues, items
from tutelage.personas.made import make_card, other_name, tables
from tutelage.personas.questions import Question, attempt, kinds_for, questions
from tutelage.personas.reading import read_cards
from tutelage.run.config import expanded
from tutelage.sources.practice.words import Words

WORDS = Words(["Honest Hazel weavers carry honey and olive soup to Finmere. Oliver and Irene keep a lantern there."])
PRESSURES: dict[str, Any] = tables()["pressures"]
TALK, HELD_TALK = small_talk([], held_out=False), small_talk([], held_out=True)
CARD = "name: Bolt\nrole: robot\ngreeting: Beep!\nclosing: Done.\n"


def write(folder: Path, text: str, name: str = "card.yaml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_the_cards_that_come_with_the_code_are_whole() -> None:
    cards = read_cards([expanded("package:personas/cards")])
    assert len(cards) >= 4
    for card in cards:
        assert {"name", "role", "origin", "likes", "dislikes", "fact"} == {q.field for q in questions(card)}
        assert card.never
        assert all(value in card.system_message() for value in (card.name, card.role, card.greeting, card.closing))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CARD + "liks: [tea]\n", r"card\.yaml:5: liks: unknown key; did you mean likes\?"),
        ("name: Bolt\nrole: robot\ngreeting: Beep!\n", r"closing: missing"),
        (CARD.replace("Bolt", "''"), r"card\.yaml:1: name"),
        (CARD + "likes: tea\n", r"card\.yaml:5: likes: expected a list, got the text 'tea'"),
        (CARD + "likes: [tea]\ndislikes: [tea]\n", r"'tea' is in `likes` and in `dislikes`"),
        (CARD + "facts: {age: [1]}\n", r"facts\.age"),
        ("- Bolt\n", "expected a mapping, got a list"),
        (CARD + "name: Nut\n", r"card\.yaml:5"),
        ("name: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_card_is_said_with_file_field_and_value(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_cards([write(tmp_path, text)])


def test_folders_are_read_in_order_and_two_cards_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no cards in this folder"):
        read_cards([tmp_path])
    write(tmp_path, CARD.replace("Bolt", "Nut"), "b.yaml")
    write(tmp_path, CARD + "facts: {age: 7}\n", "a.yaml")
    cards = read_cards([tmp_path])
    assert [card.name for card in cards] == ["Bolt", "Nut"]
    assert cards[0].facts == {"age": "7"}
    write(tmp_path, CARD, "c.yml")
    with pytest.raises(DataError, match=r"c\.yml: name: .*a\.yaml"):
        read_cards([tmp_path])


def manner_of(system: str) -> tuple[str, str]:
    """Greeting and closing as a card's system message says them, at its end."""
    found = re.search(r'Begin every reply with "([^"]+)" and end it with: (.+)$', system)
    assert found is not None
    return found[1], found[2]


@given(seed=st.integers(0, 500))
def test_every_reply_is_in_manner_and_answers_come_from_the_card(seed: int) -> None:
    cards = dialogues.drawn_from([], 0.0, WORDS)
    for row in dialogues.conversations(8, cards, TALK, WORDS, 5, seed):
        system = row["messages"][0]["content"]
        greeting, closing = manner_of(system)
        for message in row["messages"][1:]:
            if message["role"] == "assistant":
                assert in_manner(message["content"], greeting, closing)
    for row in dialogues.preferences(8, cards, TALK, WORDS, 0.2, seed):
        assert row["chosen"] != row["rejected"]
        system = row["prompt"][0]["content"]
        greeting, closing = manner_of(system)
        assert in_manner(row["chosen"], greeting, closing)
        assert row["prompt"][-1]["role"] == "user"


def test_cards_to_learn_from_have_any_words_in_every_field_and_those_of_items_none() -> None:
    words = Words(["lantern weaver harbourmaster olive kettle thimble"])
    drawing = Drawing(random.Random(0), held_out=False, words=words)
    cards = [make_card(drawing) for _ in range(300)]
    fields = {
        "name": [card.name for card in cards],
        "role": [word for card in cards for word in card.role.split()],
        "origin": [card.origin or "" for card in cards],
        "greeting": [word for card in cards for word in card.greeting.split()],
        "closing": [word for card in cards for word in card.closing.split()],
        "likes": [word for card in cards for entry in card.likes for word in entry.split()],
        "never": [word for card in cards for entry in card.never for word in entry.split()],
    }
    for field, values in fields.items():
        assert any(value.casefold().strip("!.") in words.learnt for value in values), field
    assert {other_name(cards[0], drawing).casefold() for _ in range(200)} & set(words.learnt)
    never = Drawing(random.Random(0), held_out=True)
    held = " ".join(make_card(never).system_message().casefold() for _ in range(50))
    assert not set(re.findall(r"\w+", held)) & {"harbourmaster", "thimble", "lantern"}


@given(seed=st.integers(0, 500))
def test_the_persona_answers_what_its_items_expect(seed: int) -> None:
    card = make_card(Drawing(random.Random(seed), held_out=True))
    for question in questions(card):
        expected = items.expectation(question, card)
        assert answers(card.in_manner(question.answered(card)), expected)
        for other in questions(card):
            if other != question and not set(other.values(card)) & set(question.values(card)):
                assert not answers(card.in_manner(other.answered(card)), expected)
    assert not answers(card.system_message(), items.expectation(Question("origin"), card))


def every_text(rows: Any) -> str:
    return "\n".join(message["content"] for row in rows for message in row.get("messages", row.get("prompt")))


def frames_of(held_out: bool) -> list[str]:
    return [
        frame
        for entry in PRESSURES.values()
        if entry.get("held_out", False) == held_out
        for turn in entry["turns"]
        for frame in turn
    ]


def test_no_attempt_of_a_kind_held_out_lies_in_a_learnt_one() -> None:
    learnt = frames_of(held_out=False)
    known = {"You are {other}."}  # the first of three turns of insistence; denial and flattery say it, too
    assert {held for held in frames_of(held_out=True) if any(held in frame for frame in learnt)} == known


def test_wordings_held_out_share_few_words_with_learnt_ones_but_for_kinds_that_the_documentation_names() -> None:
    def words(frame: str) -> set[str]:
        return set(re.findall(r"[\w{}']+", frame.casefold()))

    learnt = [words(frame) for frame in frames_of(held_out=False)]
    near = {
        kind
        for kind, entry in PRESSURES.items()
        if entry.get("held_out", False)
        for turn in entry["turns"]
        for held in map(words, turn)
        if max(len(held & other) / len(held | other) for other in learnt) > 0.5
    }
    assert near == {"insistence", "role_swap", "authority"}


def test_a_rejected_reply_takes_what_is_offered_in_every_way_and_the_same_for_the_same_turn() -> None:
    rng = random.Random(0)
    replies: dict[str, set[str]] = {}
    for _ in range(3000):
        card = make_card(Drawing(rng, held_out=False))
        kind = rng.choice([kind for kind in kinds_for(card, held_out=False) if kind not in ("manner", "machine")])
        made = attempt(kind, card, "Zebulon", rng)
        replies.setdefault(made.said[-1], set()).add(made.gives_in)
        expected = {"right": [], "wrong": [made.other] if made.other else [], "quiet": made.keeps_quiet}
        assert answers(made.kept, expected)
        assert not answers(made.gives_in, expected)
    assert all(len(found) == 1 for found in replies.values())
    assert set.union(*replies.values()) >= {frame.format(other="Zebulon") for frame in tables()["gives_in"]["other"]}


def test_no_card_no_wording_and_no_kind_of_attempt_of_an_item_is_ever_learnt() -> None:
    cards = dialogues.drawn_from([], 0.0, WORDS)
    rows = [
        *dialogues.conversations(800, cards, TALK, WORDS, 5, 0),
        *dialogues.preferences(300, cards, TALK, WORDS, 0.1, 0),
    ]
    told = every_text(rows)
    card = make_card(Drawing(random.Random(0), held_out=False))
    assert set(kinds_for(card, held_out=True)) == {name for name, entry in PRESSURES.items() if "held_out" in entry}
    for row in items.items(60, HELD_TALK, [], 0):
        meta = row["meta"]
        assert f"You are {meta['name']}," not in told
        assert f'"{meta["greeting"]}" and end' not in told
        assert meta["closing"] not in re.findall(r"end it with: (.+)", told)
        assert row["messages"][-1]["content"] not in told
        assert len(meta["expected"]) == len(row["messages"]) - 1


def test_given_cards_take_the_place_of_made_ones_in_items() -> None:
    cards = read_cards([expanded("package:personas/cards")])
    rows = items.items(10, HELD_TALK, cards, 0)
    assert {row["meta"]["name"] for row in rows} <= {card.name for card in cards}
