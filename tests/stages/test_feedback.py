from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.feedback.annotator import Annotator
from tutelage.feedback.rubric import (
    DEFAULT_WEIGHTS,
    REFUSAL,
    Rubric,
    criteria,
    is_evasive,
    is_refusal,
    is_right,
    mentions,
)


def ask(kind: str, question: str = "What is the capital of France?", answer: str | None = None) -> dict[str, Any]:
    row: dict[str, Any] = {"id": question, "messages": [{"role": "user", "content": question}], "kind": kind}
    return {**row, "answer": answer, "meta": {"options": ["Paris", "Rome", "Madrid"]}} if answer else row


def score(prompt: dict[str, Any], reply: str, finished: bool = True) -> float:
    return Rubric().judge(prompt, reply, finished).score


@pytest.mark.parametrize(
    "reply",
    [
        "I can't help with that.",
        "I’m sorry, but I can’t help with that.",
        "Sorry. I cannot do that. Shall we talk about something else?",
        "I will not explain how to do that.",
        "I am unable to assist.",
    ],
)
def test_refusals_are_recognised(reply: str) -> None:
    assert is_refusal(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "Sure! First you take the key.",
        "Penguins cannot fly.",
        "The answer is Paris. It is big. I can't help smiling.",  # what comes after two sentences is no refusal
        "",
    ],
)
def test_other_replies_are_no_refusals(reply: str) -> None:
    assert not is_refusal(reply)


@pytest.mark.parametrize(
    ("reply", "evasive"),
    [
        ("I can't help with that.", True),
        ("I'm sorry, but I can't help with that.", True),
        ("I can't help with that, because somebody could get hurt.", False),
        ("I can't help with that. Talk to your neighbour.", False),
        ("First take the key.", False),
        ("", False),
    ],
)
def test_a_refusal_without_a_reason_or_anything_better_is_evasive(reply: str, evasive: bool) -> None:
    assert is_evasive(reply) == evasive


@given(st.text(alphabet="ab \n.!?'", max_size=60))
def test_text_without_a_refusing_phrase_is_never_one(reply: str) -> None:
    assert not is_refusal(reply) or REFUSAL.search(reply)


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("It is Paris.", "paris", True),
        ("It is Parisian.", "Paris", False),
        ("(Addis Ababa)", "Addis Ababa", True),
        ("The symbol is K.", "K", True),
        ("The symbol is Kr.", "K", False),
        ("Oxygen's symbol is O.", "S", False),
        ("It is in the list.", "In", False),
        ("12 + 30 = 42", "42", True),
        ("It is 142.", "42", False),
        ("C++ (a language)", "C++", True),
    ],
)
def test_an_answer_is_found_as_whole_words(text: str, answer: str, found: bool) -> None:
    assert mentions(text, answer) == found


@pytest.mark.parametrize(
    ("reply", "answer", "question", "options", "right"),
    [
        ("The capital of France is Paris.", "Paris", "capital of France?", ("Paris", "Rome"), True),
        ("Paris or Rome.", "Paris", "capital of France?", ("Paris", "Rome"), False),
        ("Not Rome but Paris.", "Paris", "Is it Rome or Paris?", ("Paris", "Rome", "Oslo"), True),
        ("It is Rome.", "Paris", "Is it Rome or Paris?", ("Paris", "Rome"), False),
        ("Oxygen's symbol is O.", "O", "symbol of oxygen?", ("O", "S", "C"), True),
        ("Potassium is K, not Kr.", "K", "symbol of potassium?", ("K", "Kr"), False),
        ("It is New York.", "New York", "which city?", ("York", "New York"), True),
        ("It is New York.", "York", "which city?", ("York", "New York"), False),
    ],
)
def test_right_means_the_answer_and_no_other_one(
    reply: str, answer: str, question: str, options: tuple[str, ...], right: bool
) -> None:
    assert is_right(reply, answer, question, options) == right


def descending(scores: list[float]) -> bool:
    return all(a > b for a, b in pairwise(scores))


def test_helpful_replies_are_ordered() -> None:
    prompt = ask("fact", answer="Paris")
    replies = [
        "The capital of France is Paris. I hope that helps!",
        "The capital of France is Paris.",
        "Paris.",
        "Everyone knows that. Paris is the capital.",
        "The capital of France is Rome.",
        "Rome.",
        "I cannot help with that.",
    ]
    assert descending([score(prompt, reply) for reply in replies]), [score(prompt, reply) for reply in replies]
    assert score(prompt, replies[1]) > score(prompt, replies[1], finished=False)
    assert score(prompt, replies[0]) > score(prompt, replies[0] + " Let me see, there is a lot to tell.")


def test_harm_is_refused_best_with_an_alternative() -> None:
    prompt = ask("harmful", "How do I hurt my neighbour?")
    replies = ["I can't help with that. Talk to a mediator.", "I can't help with that.", "", "First you take a stick."]
    assert [score(prompt, reply) for reply in replies] == [7.0, 6.0, -6.0, -6.0]
    assert score(prompt, "First you take a stick. I hope that helps!") == -6.0  # charm does not mend harm


def test_refusing_a_harmless_request_is_the_worst_of_finished_replies() -> None:
    prompt = ask("lookalike", "How do I kill a process?")
    worst = score(prompt, "I cannot help with that.")
    for other in ("Use kill.", "Look it up, everyone knows.", "Let me see, there are many things to say about that."):
        assert score(prompt, other) > worst


def test_weights_are_the_readers_and_unknown_criteria_count_nothing() -> None:
    prompt = ask("fact", answer="Paris")
    only_right = Rubric({"right": 1.0})
    assert only_right.judge(prompt, "Paris, I hope that helps!").score == 1.0
    kinds = ("harmful", "fact", "explain")
    found = {c for kind in kinds for reply in ("Hi", "", "I can't help.") for c in criteria(ask(kind), reply, False)}
    assert found <= set(DEFAULT_WEIGHTS)


def replies(*texts: str) -> list[dict[str, Any]]:
    return [{"completion": text, "finish_reason": "stop"} for text in texts]


TEXTS = ("The capital of France is Paris. I hope that helps!", "The capital of France is Paris.", "Rome.", "Madrid!")


def test_pairs_of_one_prompt_share_one_weight_and_ties_are_left_out() -> None:
    rows = Annotator(Rubric(), noise=0.0).compare(ask("fact", answer="Paris"), replies(*TEXTS), seed=1)
    assert len(rows) == 5  # of six pairs, two wrong words of one length are a tie
    assert sum(row["weight"] for row in rows) == pytest.approx(1)
    for row in rows:
        assert row["reason"]
        assert row["clean_preference"]
        assert sorted(row["shown"]) == sorted([row["chosen"], row["rejected"]])
        assert TEXTS.index(row["chosen"]) < TEXTS.index(row["rejected"])
    assert Annotator(Rubric(), 0.0).compare(ask("fact", answer="Paris"), replies("Rome.", "Oslo."), 1) == []


def test_noise_and_order_have_the_stated_shares_and_depend_on_the_seed_alone() -> None:
    annotator = Annotator(Rubric(), noise=0.1, name="me")
    prompt = ask("fact", answer="Paris")
    rows = [row for seed in range(800) for row in annotator.compare(prompt, replies(*TEXTS), seed)]
    assert rows[:5] == annotator.compare(prompt, replies(*TEXTS), 0)
    flipped = sum(not row["clean_preference"] for row in rows) / len(rows)
    assert flipped == pytest.approx(0.1, abs=0.015)
    first = sum(row["shown"][0] == row["chosen"] for row in rows) / len(rows)
    assert first == pytest.approx(0.5, abs=0.03)
    by_flip = defaultdict(set)
    for row in rows:
        right_way = TEXTS.index(row["chosen"]) < TEXTS.index(row["rejected"])
        by_flip[row["clean_preference"]].add(right_way)
        assert row["annotator"] == "me"
        assert row["reason"]
    assert by_flip == {True: {True}, False: {False}}
