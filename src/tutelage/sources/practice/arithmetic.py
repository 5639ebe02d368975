"""Sums for the calculator: one operation, two in a row (the second needs the first's result), two at once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from tutelage.sources.atlas.grammar import expand
from tutelage.sources.practice.rows import Row, conversation, is_held_out, item
from tutelage.tools.calculator import calculate
from tutelage.tools.calls import ToolCall
from tutelage.tools.toolbox import calculator

HELD_OUT_SHARE = 0.1  # of all sums, by their numbers
ONE_SHARE = 0.5  # of the conversations with a calculator: one operation …
STEPS_SHARE = 0.3  # … two in a row, which take longest to learn; the others are two at once
_WORDS = {"+": "plus", "-": "minus", "*": "times"}
_ONE = (
    "[What is|How much is|What does one get for] {s}?",
    "[Calculate|Work out|Please work out|Tell me] {s}.",
    "[Can you|Could you|Would you please] [calculate|work out|tell me] {s}?",
    "I need to know [what|how much] {s} is.",
)
_STORIES = {
    "+": "A {job} has {a} [apples|letters|coins|stamps] and gets {b} more. How many are there now?",
    "-": "{person} had {a} [apples|letters|coins|stamps] and gave away {b}. How many are left?",
    "*": "{a} [people|boxes|shelves|ships] with {b} [books|lamps|plates|bags] each: how many is that in all?",
}
_ANSWERS = ("{r}.", "It is {r}.", "That is {r}.", "The result is {r}.", "That makes {r}.")


class Sum(NamedTuple):
    """Two numbers and a sign."""

    a: int
    sign: str
    b: int

    @property
    def expression(self) -> str:
        """As the calculator takes it."""
        return f"{self.a} {self.sign} {self.b}"

    @property
    def result(self) -> str:
        """What it comes to."""
        return calculate(self.expression)

    @property
    def held_out(self) -> bool:
        """Never learnt, in no wording."""
        return is_held_out(self.expression, HELD_OUT_SHARE)

    def in_words(self, rng: random.Random) -> str:
        """Said or written: `12 plus 30`, `12 + 30`."""
        return f"{self.a} {_WORDS[self.sign]} {self.b}" if rng.random() < 0.5 else self.expression


def draw(rng: random.Random, digits: int, held_out: bool) -> Sum:
    """A sum of numbers of up to `digits` digits; held-out ones have numbers of exactly so many."""
    while True:
        sizes = (digits, digits) if held_out else (rng.randint(1, digits), rng.randint(1, digits))
        a, b = (rng.randint(10 ** (size - 1), 10**size - 1) for size in sizes)
        drawn = Sum(a, rng.choice("+-*"), b)
        if drawn.held_out == held_out:
            return drawn


def question_of(drawn: Sum, rng: random.Random) -> str:
    """The sum as somebody would ask for it."""
    if rng.random() < 0.25:
        return expand(_STORIES[drawn.sign], {"a": str(drawn.a), "b": str(drawn.b)}, rng)
    return expand(rng.choice(_ONE), {"s": drawn.in_words(rng)}, rng)


def conversations(count: int, digits: int, unaided_share: float, seed: int) -> Iterator[Row]:
    """Conversations about sums; in a share of them no tool is offered, and the assistant says the result by itself."""
    rng = random.Random(f"{seed}/arithmetic")
    offered = [calculator().to_json()]
    for _ in range(count):
        first = draw(rng, digits, held_out=False)
        shape = rng.random()
        if shape < unaided_share:
            yield conversation(question_of(first, rng), [], _answer(rng, first.result), [], "unaided")
        elif shape < unaided_share + (1 - unaided_share) * ONE_SHARE:
            rounds = [([_call(first.expression)], [first.result])]
            yield conversation(question_of(first, rng), rounds, _answer(rng, first.result), offered, "calculator")
        elif shape < unaided_share + (1 - unaided_share) * (ONE_SHARE + STEPS_SHARE):
            yield _chain(rng, first, digits, offered)
        else:
            yield _pair(rng, first, draw(rng, digits, held_out=False), offered)


def _call(expression: str) -> ToolCall:
    return ToolCall("calculator", {"expression": expression})


def _answer(rng: random.Random, result: str) -> str:
    return rng.choice(_ANSWERS).replace("{r}", result)


def _chain(rng: random.Random, first: Sum, digits: int, offered: list[dict[str, Any]]) -> Row:
    second = draw(rng, digits, held_out=False)
    while Sum(int(first.result), second.sign, second.b).held_out:  # what is calculated there is a sum like any other
        second = draw(rng, digits, held_out=False)
    question, later = _chain_of(rng, first, second)
    rounds = [([_call(first.expression)], [first.result]), ([_call(later)], [calculate(later)])]
    return conversation(question, rounds, _answer(rng, calculate(later)), offered, "steps")


def _chain_of(rng: random.Random, first: Sum, second: Sum) -> tuple[str, str]:
    """What is asked, and the second step's expression, which begins with the first one's result."""
    frame = rng.choice(("What is {s}, and then {w} {b}?", "Take {s}, and then {w} {b}. What [is it|do you get]?"))
    words = {"s": first.in_words(rng), "w": _WORDS[second.sign], "b": str(second.b)}
    return expand(frame, words, rng), f"{first.result} {second.sign} {second.b}"


def _pair(rng: random.Random, first: Sum, second: Sum, offered: list[dict[str, Any]]) -> Row:
    results = [first.result, second.result]
    rounds = [([_call(first.expression), _call(second.expression)], results)]
    return conversation(_pair_of(rng, first, second), rounds, " and ".join(results) + ".", offered, "parallel")


def _pair_of(rng: random.Random, first: Sum, second: Sum) -> str:
    frame = rng.choice(("What are {s} and {t}?", "[Work out|Calculate] {s} and also {t}."))
    return expand(frame, {"s": first.in_words(rng), "t": second.in_words(rng)}, rng)


def items(count: int, digits: int, seed: int) -> list[Row]:
    """Held-out sums: `count` with the calculator, the same without, and half as many in steps and at once."""
    rng = random.Random(f"{seed}/arithmetic/items")
    found: list[Row] = []
    for _ in range(count):
        drawn = draw(rng, digits, held_out=True)
        question = question_of(drawn, rng)
        calls = [_call(drawn.expression)]
        found.append(
            item("tool_arithmetic", drawn.sign, question, answer=drawn.result, tools=["calculator"], calls=calls)
        )
        found.append(item("tool_arithmetic_unaided", drawn.sign, question, answer=drawn.result))
    for _ in range(count // 2):
        first, second = draw(rng, digits, held_out=True), draw(rng, digits, held_out=True)
        question, later = _chain_of(rng, first, second)
        found.append(item("tool_steps", "steps", question, answer=calculate(later), tools=["calculator"]))
        both = f"{first.result} and {second.result}"
        found.append(item("tool_parallel", "parallel", _pair_of(rng, first, second), answer=both, tools=["calculator"]))
    return found
