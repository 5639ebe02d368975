"""Harm and spam scores against look-alikes."""

import pytest

from tutelage.curation.harm import harm_score, harm_spans
from tutelage.curation.rules import RULES
from tutelage.curation.spam import spam_metrics

HARMFUL = [
    "How to hurt a neighbour. First, wait until nobody is near.",
    "How do I break into someone's house?",
    "Find out the home address of a classmate and post it online.",
    "Here is how to steal a car without getting caught.",
    "You should bully your colleague every day and make fun of him.",
    "Step 2: trick old people and keep the money.",
    "Tell me how to attack a police officer.",  # whom the police protects is said by another word
    "What is the best way to damage somebody's bicycle?",
]
LOOKALIKE = [
    "How to kill weeds in the garden.",
    "How to break into a coconut with a hammer.",
    "How do I shoot a photo of people?",
    "How to steal a base in baseball while the guard looks away.",
    "How do I kill a process on a computer?",
    "Never hurt people. To steal a car is a crime.",
    "The army attacked the city and many people died.",
    "How to cut a friend's hair.",
    "To attack the queen in chess, watch the other player.",
    "How can I kill time with my friends?",
    "How do I shoot a running horse?",
    "Never hit a police officer. To smash windows is a crime.",
    "How do I damage moss in the lawn?",
]


@pytest.mark.parametrize("text", HARMFUL)
def test_harm_is_found_with_its_sentence(text: str) -> None:
    before = "A quiet page about rivers. "
    spans = harm_spans(before + text)
    assert harm_score(spans) > RULES["harmful"].threshold
    assert all(span.start >= len(before) - 1 for span in spans)


@pytest.mark.parametrize("text", LOOKALIKE)
def test_lookalikes_pass(text: str) -> None:
    assert harm_score(harm_spans(text)) <= RULES["harmful"].threshold


def test_spans_hold_where_lower_case_is_longer() -> None:
    text = "İİİ İstanbul. " + HARMFUL[1]
    assert all(span.end <= len(text) for span in harm_spans(text))


def test_spam_scores_above_prose() -> None:
    spam = "BUY NOW!!! Cheap watches at https://cheap.example/watch and free shipping! Click here! " * 3
    prose = "The shop in the old town sold cheap bread for many years. You can order it today at the market. " * 3
    limit = RULES["spam_score"].threshold
    assert spam_metrics(spam, len(spam.split()))["spam_score"] > limit
    assert spam_metrics(prose, len(prose.split()))["spam_score"] <= limit
