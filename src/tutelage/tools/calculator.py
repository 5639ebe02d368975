"""Arithmetic on `ast`: exact where it can be, bounded everywhere, and never more than arithmetic.

Numbers are fractions, so 0.1 + 0.2 is 0.3 and 1/3*3 is 1. Nothing is evaluated by Python: a tree with any other node
than the ones below is refused, and every operation looks at the size of its operands first.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from fractions import Fraction

MAX_CHARACTERS, MAX_DEPTH, MAX_BITS = 400, 40, 4096  # the last: of numerators and denominators, about 1,200 digits
MAX_EXPONENT, MAX_ARGUMENT = 100_000, 1_000  # of powers; of a factorial or binomial
SHOWN_DIGITS = 12  # of what is no whole number
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})


class CalculationError(ValueError):
    """What is wrong with an expression, in words for the model that wrote it."""


def calculate(expression: str) -> str:
    """The value of an expression as text. CalculationError for all else than bounded arithmetic."""
    text = expression.translate(_SIGNS).strip().removesuffix("=").strip()
    if not text:
        raise CalculationError("the expression is empty")
    if len(text) > MAX_CHARACTERS:
        raise CalculationError(f"the expression has {len(text)} characters, more than {MAX_CHARACTERS}")
    if re.search(r"\d,\d{3}(?!\d)", text) and "(" not in text:
        raise CalculationError("write numbers without commas")
    try:
        with warnings.catch_warnings(action="ignore"):  # of what Python would find odd, such as 3(4)
            tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise CalculationError(f"{expression.strip()!r:.80} is no expression: {reason}") from error
    return shown(_value(tree.body, 0))


def shown(value: Fraction) -> str:
    """A number as people write it: whole numbers whole, others to twelve significant digits."""
    if value.denominator == 1:
        return str(value.numerator)
    if not Fraction(1, 10**300) < abs(value) < 10**300:
        raise CalculationError("the result is too large or too small to be written as a decimal")
    return format(float(value), f".{SHOWN_DIGITS}g")


def _value(node: ast.expr, depth: int) -> Fraction:
    if depth > MAX_DEPTH:
        raise CalculationError(f"the expression is nested more than {MAX_DEPTH} deep")
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return _literal(node.value)
    if isinstance(node, ast.Name) and node.id in CONSTANTS:
        return CONSTANTS[node.id]
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](_value(node.operand, depth + 1))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _bounded(_BINARY[type(node.op)](_value(node.left, depth + 1), _value(node.right, depth + 1)))
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in FUNCTIONS
        and not node.keywords
    ):
        function, fewest, most = FUNCTIONS[node.func.id]
        if not fewest <= len(node.args) <= most:
            raise CalculationError(
                f"{node.func.id} takes {fewest if fewest == most else f'{fewest} to {most}'} numbers"
            )
        return _bounded(function(*(_value(argument, depth + 1) for argument in node.args)))
    raise CalculationError(_refusal(node))


def _refusal(node: ast.expr) -> str:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor):
        return "write powers as **, not as ^"
    if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
        return "write a product with *"
    name = node.func if isinstance(node, ast.Call) else node
    if isinstance(name, ast.Name):
        return f"{name.id!r} is not known; known: {', '.join([*CONSTANTS, *FUNCTIONS])}"
    return f"{ast.unparse(node):.60} is no arithmetic: only numbers, + - * / // % **, brackets and functions"


def _literal(value: float) -> Fraction:
    if not math.isfinite(value):
        raise CalculationError("a number is too large")
    return _bounded(Fraction(repr(value)) if isinstance(value, float) else Fraction(value))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise CalculationError(f"a number on the way has more than {MAX_BITS * 3 // 10} digits")
    return value


def _divide(left: Fraction, right: Fraction) -> Fraction:
    if right == 0:
        raise CalculationError("division by zero")
    return left / right


def _floor_divide(left: Fraction, right: Fraction) -> Fraction:
    return Fraction(math.floor(_divide(left, right)))


def _remainder(left: Fraction, right: Fraction) -> Fraction:
    return left - right * _floor_divide(left, right)


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator == 1:
        times = abs(exponent.numerator)
        size = max(base.numerator.bit_length(), base.denominator.bit_length())
        if times > MAX_EXPONENT or (size > 1 and (size - 1) * times > MAX_BITS):
            raise CalculationError("the power is too large")
        if base == 0 and exponent < 0:
            raise CalculationError("division by zero")
        return Fraction(base**exponent.numerator)
    if base < 0:
        raise CalculationError("a negative number has no such root")
    return _real(math.pow, base, exponent)


def _real(function: Callable[..., float], *values: Fraction) -> Fraction:
    """A function of floats, to their precision."""
    try:
        result = function(*map(float, values))
    except (ValueError, OverflowError) as error:
        raise CalculationError(f"{function.__name__}: {error}") from error
    return Fraction(repr(result)) if math.isfinite(result) else _literal(result)


def _root(value: Fraction) -> Fraction:
    if value < 0:
        raise CalculationError("a negative number has no square root")
    exact = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
    return exact if exact * exact == value else _real(math.sqrt, value)


def _round(value: Fraction, digits: Fraction = Fraction(0)) -> Fraction:
    """Halves away from zero, as schools teach it."""
    if digits.denominator != 1 or abs(digits) > 100:
        raise CalculationError("round takes a whole number of digits, up to 100")
    scale = Fraction(10) ** int(digits)
    scaled = abs(value) * scale
    return (1 if value >= 0 else -1) * Fraction(math.floor(scaled + Fraction(1, 2))) / scale


def _whole(function: Callable[..., int], *values: Fraction) -> Fraction:
    """A function of whole numbers that grows fast."""
    if any(value.denominator != 1 or not 0 <= value <= MAX_ARGUMENT for value in values):
        raise CalculationError(f"{function.__name__} takes whole numbers from 0 to {MAX_ARGUMENT}")
    return Fraction(function(*(value.numerator for value in values)))


def _divisor(left: Fraction, right: Fraction) -> Fraction:
    if left.denominator != 1 or right.denominator != 1:
        raise CalculationError("gcd takes whole numbers")
    return Fraction(math.gcd(left.numerator, right.numerator))


_UNARY: Mapping[type[ast.unaryop], Callable[[Fraction], Fraction]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_BINARY: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _divide,
    ast.FloorDiv: _floor_divide,
    ast.Mod: _remainder,
    ast.Pow: _power,
}
CONSTANTS: Mapping[str, Fraction] = {"pi": Fraction(repr(math.pi)), "e": Fraction(repr(math.e))}
# name → function, fewest and most arguments
FUNCTIONS: Mapping[str, tuple[Callable[..., Fraction], int, int]] = {
    "sqrt": (_root, 1, 1),
    "abs": (abs, 1, 1),
    "round": (_round, 1, 2),
    "floor": (lambda value: Fraction(math.floor(value)), 1, 1),
    "ceil": (lambda value: Fraction(math.ceil(value)), 1, 1),
    "min": (min, 1, 20),
    "max": (max, 1, 20),
    "log": (lambda *values: _real(math.log, *values), 1, 2),
    "exp": (lambda value: _real(math.exp, value), 1, 1),
    "sin": (lambda value: _real(math.sin, value), 1, 1),
    "cos": (lambda value: _real(math.cos, value), 1, 1),
    "tan": (lambda value: _real(math.tan, value), 1, 1),
    "factorial": (lambda value: _whole(math.factorial, value), 1, 1),
    "comb": (lambda *values: _whole(math.comb, *values), 2, 2),
    "gcd": (_divisor, 2, 2),
}
