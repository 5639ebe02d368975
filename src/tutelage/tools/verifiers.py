"""Who may confirm a worked solution: the calculator, the sandbox, the known answer, the problem's own numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import NamedTuple

from tutelage.tools.calculator import CalculationError, calculate
from tutelage.tools.python import run_python

_WORDS = {"plus": "+", "minus": "-", "times": "*", "multiplied by": "*", "divided by": "/", "over": "/"}
_OPERATORS = re.compile(r"(?<=\d)\s+(plus|minus|times|multiplied by|divided by|over)\s+(?=\(?-?[\d$])")
_TIMES = re.compile(r"(?<=\d)\s*[x×]\s*(?=\(?[\d$.])")
_N = r"-?(?:\d{1,15}(?:\.\d{1,15})?|\.\d{1,15})"
_EQUATION = re.compile(
    rf"(?<![\w.])(\({{0,9}}{_N}(?:[\s()]{{0,9}}[-+*/÷−][\s()]{{0,9}}{_N}){{1,20}}\){{0,9}})"
    rf"\s{{0,9}}(?:=|is|are|makes|equals|gives)\s{{0,9}}({_N})(?![\w.]*\d)(?!\s{{0,9}}[-+*/÷−(]\s{{0,9}}\d)"
)
_NUMBER = re.compile(rf"{_N}(?:/0{{0,9}}[1-9]\d{{0,15}})?")
_CODE = re.compile(r"```(?:python|py)?\n(.*?)```", re.DOTALL)
_STATED = re.compile(r"(?:answer is|answer:|####)\s*:?\s*(.*)", re.IGNORECASE)
_CLOSE = Fraction(1, 200)  # of what was rounded on the way


class Verdict(NamedTuple):
    """Whether a verifier agrees, and what it looked at."""

    agrees: bool
    seen: str


def by_arithmetic(solution: str, problem: str, answer: str) -> Verdict:
    """Every sum written out is confirmed by the calculator, and there is one."""
    found = equations(solution)
    wrong = [f"{left} = {right}" for left, right in found if not _holds(left, right)]
    return Verdict(bool(found) and not wrong, "; ".join(wrong) if wrong else f"{len(found)} sums")


def by_sources(solution: str, problem: str, answer: str) -> Verdict:
    """Every number that is reckoned with is in the problem or came out before: right sums of something else go."""
    known = {Fraction(number) for number in _numbers(problem)}
    for left, right in equations(solution):
        strange = [number for number in _numbers(re.sub(r"[-−]", " ", left)) if Fraction(number) not in known]
        if strange:
            return Verdict(False, f"{strange[0]} in {left}")
        known.add(Fraction(right))
    return Verdict(True, f"{len(known)} numbers")


def by_python(solution: str, problem: str, answer: str) -> Verdict:
    """The code in the solution, run in the sandbox, prints the answer that is known."""
    code = "\n".join(_CODE.findall(solution))
    if not code:
        return Verdict(False, "no code")
    ran = run_python(code)
    return Verdict(
        not ran.error and same_answer(ran.output.strip().split("\n")[-1], answer), ran.error or ran.output.strip()
    )


def by_answer(solution: str, problem: str, answer: str) -> Verdict:
    """What the solution ends with is the answer that is known."""
    said = final_answer(solution)
    return Verdict(same_answer(said, answer), said)


VERIFIERS: Mapping[str, Callable[[str, str, str], Verdict]] = {
    "arithmetic": by_arithmetic,
    "sources": by_sources,
    "python": by_python,
    "answer": by_answer,
}


def equations(text: str) -> list[tuple[str, str]]:
    """(expression, stated result) of every sum in a text, `7 plus 8 is 15` as much as `48/2 = 24`."""
    plain = re.sub(r"[$€£%]|(?<=\d),(?=\d{3}\b)", "", text)
    plain = _OPERATORS.sub(lambda found: f" {_WORDS[found.group(1)]} ", plain)
    plain = _TIMES.sub(" * ", plain)
    return [(" ".join(left.split()), right) for left, right in _EQUATION.findall(plain)]


def final_answer(text: str) -> str:
    """What stands after the last `answer is` or `####`, else the last number."""
    stated = _STATED.findall(text)
    if stated:
        return str(stated[-1]).strip().rstrip(".")
    found = _NUMBER.findall(text.replace(",", ""))
    return found[-1] if found else ""


def _holds(left: str, right: str) -> bool:
    try:
        value = Fraction(calculate(left))
    except (CalculationError, ValueError):
        return False
    stated = Fraction(right)
    return value == stated or (abs(value - stated) <= _CLOSE * max(abs(value), abs(stated)) and "." in right)


def same_answer(said: str, answer: str) -> bool:
    """Equal as numbers where both are, else as words."""
    left, right = _value(said), _value(answer)
    if left is not None and right is not None:
        return left == right
    return bool(said) and " ".join(said.casefold().split()).rstrip(".") == " ".join(answer.casefold().split()).rstrip(
        "."
    )


def _numbers(text: str) -> list[str]:
    return re.findall(rf"(?<![\w.]){_N}", text.replace(",", ""))


def _value(text: str) -> Fraction | None:
    """The one number of a text."""
    found = _NUMBER.findall(text.replace(",", ""))
    return Fraction(found[0]) if len(found) == 1 else None
