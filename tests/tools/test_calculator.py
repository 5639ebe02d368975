from __future__ import annotations

import contextlib
import operator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.tools.calculator import MAX_CHARACTERS, CalculationError, calculate

numbers = st.integers(-10_000, 10_000)
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


@given(a=numbers, b=numbers, c=numbers, first=st.sampled_from("+-*"), second=st.sampled_from("+-*"))
def test_whole_numbers_are_exact(a: int, b: int, c: int, first: str, second: str) -> None:
    assert calculate(f"({a} {first} {b}) {second} {c}") == str(OPERATIONS[second](OPERATIONS[first](a, b), c))


@given(a=st.decimals(-1000, 1000, places=2), b=st.decimals(-1000, 1000, places=2))
def test_decimals_are_exact_as_on_paper(a: object, b: object) -> None:
    assert Fraction(calculate(f"{a} + {b}")) == Fraction(str(a)) + Fraction(str(b))


@given(a=numbers, b=numbers.filter(bool))
def test_division_is_undone_by_multiplication(a: int, b: int) -> None:
    assert calculate(f"{a} / {b} * {b}") == str(a)
    assert calculate(f"{a} // {b} * {b} + {a} % {b}") == str(a)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("0.1 + 0.2", "0.3"),
        ("10 / 4", "2.5"),
        ("2 ** 0.5", "1.41421356237"),
        ("2 ** -2", "0.25"),
        ("-2 ** 2", "-4"),
        ("sqrt(16)", "4"),
        ("round(2.5)", "3"),
        ("round(2.675, 2)", "2.68"),
        ("max(1, 234)", "234"),
        ("comb(5, 2) + gcd(12, 18)", "16"),
        ("12 × 3 − 4 ÷ 2 =", "34"),
        ("factorial(20)", "2432902008176640000"),
    ],
)
def test_values(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "empty"),
        ("1 / 0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("5 % 0", "division by zero"),
        ("2 ^ 3", "as **"),
        ("3(4)", "product"),
        ("1,234 + 1", "without commas"),
        ("x + 1", "'x' is not known"),
        ("23 plus 4", "no expression"),
        ("sqrt(-1)", "square root"),
        ("sqrt()", "takes 1"),
        ("9 ** 9 ** 9", "too large"),
        ("2 ** 2 ** 20", "too large"),
        ("factorial(10 ** 6)", "from 0 to 1000"),
        ("*".join(["9" * 60] * 6) + "**30", "too large"),
        ("1e999", "too large"),
        ("2 ** -2000", "too small"),
        ("1" * (MAX_CHARACTERS + 1), "characters"),
        ("(" * 300, "no expression"),
        ("-" * 100 + "1", "nested"),
        ("__import__('os').system('true')", "product"),
        ("().__class__", "no arithmetic"),
        ("'a' * 10", "no arithmetic"),
        ("[1] * 10", "no arithmetic"),
        ("True + 1", "no arithmetic"),
        ("1j * 1j", "no arithmetic"),
        ("(x := 5)", "no arithmetic"),
        ("lambda: 1", "no arithmetic"),
        ("f'{1}'", "no arithmetic"),
        ("max(*range(5))", "no arithmetic"),
        ("1 if 1 else 2", "no arithmetic"),
        ("1 < 2", "no arithmetic"),
        ("\0", "no expression"),
    ],
)
def test_everything_else_is_refused_with_a_reason(expression: str, reason: str) -> None:
    with pytest.raises(CalculationError, match=reason.replace("*", r"\*")):
        calculate(expression)


@given(text=st.text(alphabet="0123456789+-*/%.() ,eabsqrtx^=\n'\\", max_size=60))
def test_no_text_does_anything_but_give_a_number_or_a_reason(text: str) -> None:
    with contextlib.suppress(CalculationError):
        value = calculate(text)
        assert Fraction(value) == Fraction(calculate(value))
