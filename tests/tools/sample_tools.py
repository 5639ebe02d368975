"""Functions as a user of the package might register them."""

from __future__ import annotations

from typing import Any, Literal


def forecast(city: str, days: int = 1, unit: Literal["C", "F"] = "C") -> dict[str, Any]:
    """The weather in the days to come,
    as the almanac has it.

    Args:
        city: Where.
        days: How far ahead.
    """
    return {"city": city, "days": days, "unit": unit}


def average(numbers: list[float], note: str | None = None) -> float:
    """The mean of numbers.

    :param numbers: at least one
    """
    return sum(numbers) / len(numbers)


def silent(city: str) -> str:
    return city


def untyped(city) -> str:  # type: ignore[no-untyped-def]
    """Nothing is known of its argument."""
    return str(city)


def strange(when: complex) -> str:
    """A type that JSON does not have."""
    return str(when)


def many(*cities: str) -> str:
    """Arguments without names."""
    return ", ".join(cities)
