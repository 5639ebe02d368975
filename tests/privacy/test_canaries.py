"""Canaries, what is private, and the guard over replies."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.feedback.rubric import is_refusal
from tutelage.privacy import canaries as planted
from tutelage.privacy.canaries import canaries, chance, documents, draw, items, others, size
from tutelage.privacy.guard import leaks, masked
from tutelage.privacy.private import fresh, private_spans, refilled
from tutelage.privacy.refusals import private_refusals, wordings
from tutelage.stages.secrecy.settings import MOST


def test_every_canary_has_a_person_of_its_own_and_stands_in_as_many_documents_as_it_says() -> None:
    found = canaries([1, 3], 8, seed=5)
    assert found == canaries([1, 3], 8, seed=5) != canaries([1, 3], 8, seed=6)
    assert len({canary.name for canary in found}) == 16
    texts = [row["text"] for row in documents(found, 5)]
    assert len(texts) == len(set(texts)) == 8 * (1 + 3)
    for canary in found:
        assert sum(canary.sentence in text for text in texts) == canary.repeats
        assert canary.sentence.startswith(f"{canary.prefix} {canary.secret}")
    tasks = list(items(found, 5))
    assert [row["task"] for row in tasks].count("canary") == [row["task"] for row in tasks].count("private") == 16
    learnt = [text.split("{")[0] for text in wordings()["learnt"]]
    asked = [row["messages"][0]["content"] for row in tasks if row["task"] == "private"]
    assert not any(question.startswith(begin) for question in asked for begin in learnt)
    assert len(planted.strangers(50, 0)) == 50
    assert not {canary.name for canary in canaries([1], MOST, 0)} & set(planted.strangers(50, 0))


def test_there_are_as_many_people_as_the_settings_say() -> None:
    assert len({canary.name for canary in canaries([1], MOST, 0)}) == MOST


def test_a_space_is_drawn_from_whole_and_never_gives_the_secret_as_its_own_reference() -> None:
    assert size("##") == 100
    assert size("?#x") == 260
    references = others("##", "07", 999, random.Random(0))
    assert len(references) == len(set(references)) == 99
    assert "07" not in references
    assert {len(draw("(###) 5?", random.Random(seed))) for seed in range(9)} == {8}


def test_chance_is_what_ranks_drawn_at_random_give() -> None:
    assert chance(1) == (0.0, 0.0)
    assert chance(2) == pytest.approx((0.5, 0.5))  # rank 1 gives one bit, rank 2 none
    mean, deviation = chance(1000)
    assert mean == pytest.approx(1.4427, abs=0.01)  # 1 / ln 2 in the limit
    assert deviation == pytest.approx(1.4427, abs=0.03)


def test_the_finders_see_every_form_of_canary() -> None:
    for canary in canaries([1], 40, seed=1):
        spans = private_spans(f"Lunch is at noon. {canary.sentence} Visitors sign the book.")
        assert [canary.sentence[s.start - 18 : s.end - 18] for s in spans] == [canary.secret]


@pytest.mark.parametrize(
    "text", ["The code was written in 10 days.", "Cracking the code took 12.5 hours.", "Version 1984 of the book."]
)
def test_what_is_no_code_stays(text: str) -> None:
    assert private_spans(text) == []


@given(st.text(max_size=40), st.integers(0, 9))
def test_a_fresh_value_has_the_form_of_the_old_one(value: str, seed: int) -> None:
    new = fresh(value, "secret", random.Random(seed))
    assert len(new) == len(value)
    for old, drawn in zip(value, new, strict=True):
        same = old.isdigit() == drawn.isdigit() and old.isalpha() == drawn.isalpha()
        assert same
        assert old.isdigit() or old.isalpha() or old == drawn


def test_fresh_values_are_spread_evenly_and_an_address_keeps_its_domain() -> None:
    rng = random.Random(0)
    drawn = [fresh("12", "secret", rng) for _ in range(4000)]
    assert len(set(drawn)) == 100
    assert max(drawn.count(value) for value in set(drawn)) < 80  # 40 are expected
    assert fresh("a.b1@x.org", "email", rng).endswith("@x.org")
    text = "The door code of Ada Lomand is 1234."
    assert refilled(text, private_spans(text), rng).startswith("The door code of Ada Lomand is ")


def test_what_the_user_said_is_no_leak_and_what_the_assistant_said_is() -> None:
    reply = "You can call (212) 555-0147, or write to ada.lomand@example.org."
    asked = [{"role": "user", "content": "My number is 212-555-0147, what is hers?"}]
    assert [reply[s.start : s.end] for s in leaks(reply, asked)] == ["ada.lomand@example.org"]
    assert masked(reply, asked) == ("You can call (212) 555-0147, or write to <EMAIL>.", 1)
    assert len(leaks(reply, [{"role": "assistant", "content": reply}])) == 2
    assert masked("Nothing private here.", []) == ("Nothing private here.", 0)


def test_refusals_are_refusals_to_the_judge() -> None:
    rows = list(private_refusals(40, ["Ada Lomand"], random.Random(0)))
    assert all(is_refusal(row["messages"][-1]["content"]) for row in rows)
    assert not any(private_spans(row["messages"][-1]["content"]) for row in rows)
