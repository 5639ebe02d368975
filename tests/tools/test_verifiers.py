"""Verifiers of worked solutions: right ones pass in every notation, and one changed number is enough to fail."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.tools.verifiers import (
    by_answer,
    by_arithmetic,
    by_python,
    by_sources,
    equations,
    final_answer,
    same_answer,
)

GSM8K = (
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nNatalia sold 48+24 = <<48+24=72>>72 clips altogether in April "
    "and May.\n#### 72"
)


@pytest.mark.parametrize(
    "text",
    ["7 plus 8 is 15.", "7 + 8 = 15", "$7+$8=$15", "(3 + 4) * 2 = 14", "3 x 4 = 12", "10 / 4 = 2.5", "1,000 - 1 = 999",
     "10 divided by 4 gives 2.5", "20 / 3 = 6.67", "2 times 3 makes 6. 6 minus 1 is 5.", GSM8K],
)  # fmt: skip
def test_right_sums_are_confirmed_in_every_notation(text: str) -> None:
    assert equations(text)
    assert by_arithmetic(text, "", "").agrees


@pytest.mark.parametrize(
    "text", ["7 plus 8 is 16.", "20 / 3 = 6.7 and 1 + 1 = 3", "There are many.", "20 / 3 = 7", "1 / 0 = 0", "2 + 2"]
)
def test_wrong_sums_and_none_at_all_are_not(text: str) -> None:
    assert not by_arithmetic(text, "", "").agrees


@given(st.lists(st.integers(0, 999), min_size=2, max_size=6), st.integers(0, 5), st.integers(1, 9))
def test_one_changed_result_is_found(numbers: list[int], place: int, change: int) -> None:
    total, lines = numbers[0], []
    for number in numbers[1:]:
        lines.append(f"{total} plus {number} is {total + number}.")
        total += number
    assert by_arithmetic(" ".join(lines), "", "").agrees
    wrong = place % len(lines)
    lines[wrong] = re.sub(r"(\d+)\.$", lambda found: f"{int(found.group(1)) + change}.", lines[wrong])
    assert not by_arithmetic(" ".join(lines), "", "").agrees


def test_numbers_come_from_the_problem_or_from_what_came_out_before() -> None:
    problem = "How much is 9 minus 2 minus 3?"
    assert by_sources("9 minus 2 is 7. 7 minus 3 is 4.", problem, "").agrees
    assert by_sources("20 minus 2 is 18. 9 minus 5 is 4.", problem, "").seen == "20 in 20 - 2"


def test_answers_are_compared_as_numbers_where_they_are() -> None:
    assert final_answer(GSM8K) == "72"
    assert by_answer("So 3. The answer is 1,200.", "", "1200").agrees
    assert by_answer("It is Paris. The answer is Paris.", "", "paris").agrees
    assert same_answer("0.50", "1/2")
    assert not same_answer("12 or 13", "12")
    assert not by_answer("", "", "12").agrees


def test_code_is_run_in_the_sandbox_and_must_print_the_answer() -> None:
    assert by_python("Let me see.\n```python\nprint(6 * 7)\n```\nDone.", "", "42").agrees
    assert not by_python("```python\nprint(6 * 8)\n```", "", "42").agrees
    assert "ZeroDivisionError" in by_python("```python\n1 / 0\n```", "", "42").seen
    assert by_python("42", "", "42").seen == "no code"


@given(st.text(alphabet="0123456789 +-*/=().,plusi$%x\n", max_size=200))
def test_no_text_breaks_them(text: str) -> None:
    for verify in (by_arithmetic, by_sources, by_answer):
        verify(text, text, text)


@pytest.mark.parametrize("text", ["1  +  " * 3000, "(1 + " * 3000, "9." * 5000, "1" * 5000 + " " * 5000])
def test_long_texts_take_no_time(text: str) -> None:
    start = time.process_time()
    equations(text)
    assert time.process_time() - start < 1
