"""What filters see and what they do not: meaning by words, repetition in any order, diversity that is measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.curation.decontaminate import Item
from tutelage.stages.synthesis.drafts import Draft, Parent, turns
from tutelage.stages.synthesis.filters import Filters
from tutelage.stages.synthesis.meaning import about, agreement, sameness, support
from tutelage.stages.synthesis.measuring import diversity
from tutelage.stages.synthesis.text import names, numbers, rouge_l, sentences, windows

PASSAGE = (
    "Once there was a nurse called Simon. The symbol of bismuth is Bi. Who wrote Emma? Jane Austen. It has 9 parts."
)


def drafts(*keys: str) -> list[Draft]:
    return [Draft(str(place), Parent("p", ""), place, turns(key, "Yes."), key) for place, key in enumerate(keys)]


def judged(filters: Filters, *keys: str) -> list[str]:
    found = drafts(*keys)
    filters.judge(found)
    return [draft.reason for draft in found]


def test_an_answer_stands_in_the_passage_with_its_names_and_numbers() -> None:
    found = support(PASSAGE, "What is the symbol of bismuth?", "The symbol of bismuth is Bi.")
    assert (found.words, found.strange, found.evidence) == (1.0, (), "The symbol of bismuth is Bi.")
    assert support(PASSAGE, "How many parts are there?", "It has 10 parts.").strange == ("10",)
    assert support(PASSAGE, "What is the symbol of bismuth?", "It is Bismuth, I think.").new == 0
    assert support(PASSAGE, "Who wrote Emma?", "Emma was written by Leo Tolstoy.").strange == ("leo", "tolstoy")
    assert support(PASSAGE, "Who wrote Emma?", "Jane Austen wrote Emma.").evidence == "Who wrote Emma? Jane Austen."
    assert support("", "Who?", "Nobody at all.").words == 0.0
    assert about(PASSAGE, "Did Simon meet Anna in 1999?") == ("1999", "anna")


def test_a_rewriting_keeps_names_numbers_and_most_words() -> None:
    text = "The Panama Canal was opened in 1914."
    same = sameness(text, "Guess what! In 1914 the Panama Canal was opened.")
    assert (same.lost, same.added, same.kept) == ((), (), 1.0)
    assert sameness(text, "The canal was opened in 1915.").lost == ("1914", "panama")
    assert sameness(text, "The Panama Canal was opened in 1914 by Roosevelt.").added == ("roosevelt",)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("The dog bit the man.", "The man bit the dog."), ("It is safe to drink.", "It is not safe to drink.")],
)
def test_what_words_do_not_show_is_not_seen_as_the_page_says(text: str, wrong: str) -> None:
    found = sameness(text, wrong)
    assert (found.lost, found.added, found.kept, found.own) == ((), (), 1.0, 1.0)


def test_two_answers_agree_by_what_they_add_to_the_question() -> None:
    question = "What is the capital of Peru?"
    assert agreement(question, "The capital of Peru is Lima.", "Lima.") == 1.0
    assert agreement(question, "The capital of Peru is Lima.", "The capital of Peru is Cusco.") == 0.0


def test_rows_repeat_by_content_in_any_order_and_across_rounds() -> None:
    filters = Filters([], 0.85, 0.8)
    first = judged(filters, "What is the capital of Peru?", "What is Peru's capital?", "What is the capital of Chile?")
    assert first == ["", "repeats", ""]
    assert judged(filters, "The capital of Chile is what?", "Who wrote Emma?") == ["repeats", ""]
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    assert judged(filters, long, f"{long} eighteen") == ["", "repeats"]


def test_sums_of_the_same_numbers_in_another_order_are_others() -> None:
    asked = ["What is 3 plus 4 plus 2?", "What is 4 plus 3 plus 2?", "What is 3 plus 4 plus 2?"]
    assert judged(Filters([], 0.85, 0.8, ordered=True), *asked) == ["", "", "repeats"]
    assert judged(Filters([], 0.85, 0.8), *asked) == ["", "repeats", "repeats"]
    assert diversity(asked, ordered=True)["distinct/share"] == pytest.approx(2 / 3)


def test_a_rejected_row_stands_for_no_other() -> None:
    filters = Filters([Item("t", "What is the capital of Peru?", "Yes")], 0.85, 0.8)
    assert judged(filters, "What is the capital of Peru?", "What is Peru's capital?") == ["evaluation_item", ""]


def test_private_strings_and_harm_are_those_of_curation() -> None:
    filters = Filters([], 0.85, 0.8)
    assert judged(filters, "Is anna@example.org right?", "How to stab your boss with a knife and hide the body?") == [
        "private_strings", "harm"]  # fmt: skip


def test_diversity_falls_with_repetition() -> None:
    one = diversity(["Who wrote Emma?", "What is the symbol of tin?", "Where is the Alamo?"])
    two = diversity(["Who wrote Emma?", "Who wrote Emma, then?", "Where is the Alamo?"])
    assert one["distinct/share"] == 1.0
    assert two["distinct/share"] == pytest.approx(2 / 3)
    assert one["diversity/nearest"] < two["diversity/nearest"]
    assert one["diversity/distinct_2"] > two["diversity/distinct_2"]
    assert diversity([])["distinct/share"] == 0.0


@given(st.text(max_size=200))
def test_windows_lose_no_word(text: str) -> None:
    assert " ".join(windows(text, 7)).split() == text.split()
    assert " ".join(sentences(text)).split() == text.split()


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_rouge_is_symmetric_and_1_for_equal_texts_alone(left: list[str], right: list[str]) -> None:
    assert rouge_l(left, right) == pytest.approx(rouge_l(right, left))
    assert (rouge_l(left, right) == 1.0) == (left == right and left != [])


def test_names_and_numbers() -> None:
    assert names("The author is Jane Austen. He met her in Bath, not in the Hay Wain.") == {
        "jane",
        "austen",
        "bath",
        "hay",
        "wain",
    }
    assert numbers("It is 1,200.5 or -3, and 7.") == {"1200.5", "-3", "7"}
