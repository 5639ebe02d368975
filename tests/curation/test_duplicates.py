"""Duplicates, boilerplate and contamination."""

import random

import pytest

from tutelage.curation.boilerplate import recurring_lines, remove_lines
from tutelage.curation.decontaminate import Item, find_contamination, items_from_tasks
from tutelage.curation.duplicates import Age, catch_curve, choose, duplicates_of, jaccard, near_pairs, shingles
from tutelage.curation.words import WordHasher, Words, normal_words, split_words


def _words(texts: list[str]) -> Words:
    return split_words(texts, WordHasher())


def _text(seed: int, size: int = 120) -> list[str]:
    rng = random.Random(seed)
    return [f"w{rng.randrange(5000)}" for _ in range(size)]


def test_near_pairs_agree_with_true_jaccard_of_all_pairs() -> None:
    texts = []
    for seed in range(40):
        words = _text(seed)
        texts.append(" ".join(words))
        words[seed] = "changed"
        texts.append(" ".join([*words, "and", "more"] if seed % 2 else words))
    sets = shingles(_words(texts))
    truth = {(a, b) for a in range(80) for b in range(a + 1, 80) if jaccard(sets[a], sets[b]) >= 0.8}
    found = {(a, b) for a, b, _ in near_pairs(_words(texts), 0.8)}
    assert found <= truth
    assert len(found) >= 0.95 * len(truth)
    assert len(truth) == 40


def test_template_pages_about_different_things_are_no_duplicates() -> None:
    page = "The capital of {0} is {1}. Many people visit {1} in summer, and {0} is proud of the old bridge of {1}."
    texts = [page.format(f"land{i}", f"town{i}") for i in range(30)]
    assert near_pairs(_words(texts), 0.8) == []


def test_short_and_empty_texts() -> None:
    pairs = near_pairs(_words(["yes no", "Yes, no!", "yes maybe", "", "", "yes"]), 0.8)
    assert pairs == [(0, 1, 1.0)]


def test_catch_curve() -> None:
    curve = catch_curve()
    assert curve["0.80"] == pytest.approx(0.9234, abs=1e-3)
    assert list(curve.values()) == sorted(curve.values())


AGES = [
    Age(10, "2020-01-01", "b", 0),
    Age(30, None, "c", 1),
    Age(30, "2021-01-01", "a", 2),
    Age(5, "2020-01-01", "a", 3),
]


@pytest.mark.parametrize(("policy", "kept"), [("longest", 2), ("oldest", 3), ("newest", 2), ("first", 0)])
def test_keep_policies_with_ties(policy: str, kept: int) -> None:
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        assert choose(order, AGES, policy) == kept


def test_removed_documents_neither_stand_for_others_nor_link_them() -> None:
    pairs = [(0, 1, 0.9), (1, 2, 0.85)]
    assert duplicates_of([True] * 4, pairs, AGES, "first") == {1: (0, 0.9), 2: (0, 0.85)}
    assert duplicates_of([True, False, True, True], pairs, AGES, "first") == {}


def test_a_removed_copy_does_not_hide_that_its_twin_is_a_near_duplicate() -> None:
    pairs = [(0, 1, 1.0), (0, 2, 0.9)]
    assert duplicates_of([False, True, True, True], pairs, AGES, "first") == {2: (1, 0.9)}
    assert duplicates_of([True] * 4, pairs, AGES, "first") == {1: (0, 1.0), 2: (0, 0.9)}


def test_recurring_lines_are_removed_for_their_source_only() -> None:
    texts = [f"Home | News | Help\nText number {i} of the site." for i in range(30)] + ["Home | News | Help\nOther."]
    sources = ["a"] * 30 + ["b"]
    lines = recurring_lines(texts, sources, min_documents=20, min_share=0.1)
    assert lines == {"a": {"Home | News | Help"}, "b": set()}
    assert remove_lines(texts[3], lines["a"]) == ("Text number 3 of the site.", 18)
    assert remove_lines(texts[30], lines["b"]) == (texts[30], 0)


SHORT = Item("short", "What is the capital of France?", "Paris")
LONG = Item("long", " ".join(f"word{i}" for i in range(20)), "answer")


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("We ask: what is the capital of FRANCE? The answer: Paris.", "short"),
        ("What is the capital of France? What is the capital of Spain? What is the capital of Italy? Paris", None),
        ("Paris is the capital of France.", None),
        ("so " + " ".join(f"word{i}" for i in range(4, 17)) + " end", "long"),
        ("so " + " ".join(f"word{i}" for i in range(4, 16)) + " end", None),
    ],
)
def test_contamination(text: str, item: str | None) -> None:
    hasher = WordHasher()
    found = find_contamination(split_words(["clean text", text], hasher), [SHORT, LONG], hasher)
    assert found.documents == ({1: item} if item else {})
    assert found.items == {"short": int(item == "short"), "long": int(item == "long")}


def test_only_marked_tasks_count_and_what_cannot_be_searched_is_said() -> None:
    rows = [
        {
            "id": "a",
            "messages": [{"role": "user", "content": "Who?"}],
            "answer": "Ann",
            "meta": {"decontaminate": True},
        },
        {"id": "b", "prompt": "Who?", "answer": "Ann", "meta": {"decontaminate": False}},
        {"id": "c", "prompt": "Who?", "meta": {"decontaminate": True}},
        {"id": "d", "prompt": "Who?"},
    ]
    items = items_from_tasks(rows)
    assert [item.id for item in items] == ["a", "c"]
    hasher = WordHasher()
    found = find_contamination(split_words(["Who? Ann."], hasher), items, hasher)
    assert found.documents == {0: "a"}
    assert found.unsearchable == ("c",)


def test_words_are_lower_cased_runs() -> None:
    assert normal_words("It's 3.5 ÉTÉ_x!") == ["it", "s", "3", "5", "été_x"]
