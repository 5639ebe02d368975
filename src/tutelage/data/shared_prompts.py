"""Completions of one prompt side by side in a row, the prompt laid once: which lie together, in rows of which width.

What they share is the prompt without its last token, which predicts another token in each completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tutelage.data.packing import pack

WIDTH_OF_DOUBLE_COST = 1000  # attention to a row this wide costs what everything else does, in a model of width 150
WIDTHS = [2 ** (step / 4) for step in range(13)]  # tried, in units of the least


class Family(NamedTuple):
    """Numbers of completions that share their first `prefix` tokens; a single one shares none."""

    prefix: int
    members: list[int]


class Plan(NamedTuple):
    """Families side by side in rows of `width` tokens."""

    width: int
    rows: list[list[Family]]

    @property
    def cost(self) -> float:
        """Of a forward, in tokens of a narrow row: padding costs as tokens do, and attention as rows are wide."""
        return len(self.rows) * self.width * (1 + self.width / WIDTH_OF_DOUBLE_COST)


def plan_rows(prompts: Sequence[Sequence[int]], lengths: Sequence[int], least_width: int) -> Plan:
    """The cheapest of a few widths with prompts shared, or rows of the least width in which nothing is shared.

    `lengths` are those of prompts and completions together, none above `least_width`.
    """
    apart = _plan([Family(0, [number]) for number in range(len(prompts))], lengths, least_width)
    families = _families(prompts)
    if not any(family.prefix for family in families):
        return apart
    shared = [_trimmed(_plan(families, lengths, int(least_width * factor)), lengths) for factor in WIDTHS]
    return min([apart, *shared], key=lambda plan: plan.cost)


def _families(prompts: Sequence[Sequence[int]]) -> list[Family]:
    """Completions by their prompt, in the order of first appearance."""
    members: dict[tuple[int, ...], list[int]] = {}
    for number, prompt in enumerate(prompts):
        members.setdefault(tuple(prompt), []).append(number)
    return [_family(max(len(prompt) - 1, 0), numbers) for prompt, numbers in members.items()]


def _family(prefix: int, members: list[int]) -> Family:
    return Family(prefix if len(members) > 1 else 0, members)


def _plan(families: Sequence[Family], lengths: Sequence[int], width: int) -> Plan:
    pieces = [piece for family in families for piece in _fitting(family, lengths, width)]
    rows = pack([_tokens(piece, lengths) for piece in pieces], width)
    return Plan(width, [[pieces[number] for number in row] for row in rows])


def _fitting(family: Family, lengths: Sequence[int], width: int) -> list[Family]:
    """The family in as few parts as fit into a row each; where no token is shared, every completion by itself."""
    prefix, members = family
    if not prefix:
        return [Family(0, [member]) for member in members]
    parts = pack([lengths[member] - prefix for member in members], width - prefix)
    return [_family(prefix, [members[place] for place in part]) for part in parts]


def _trimmed(plan: Plan, lengths: Sequence[int]) -> Plan:
    return plan._replace(width=max(sum(_tokens(piece, lengths) for piece in row) for row in plan.rows))


def _tokens(family: Family, lengths: Sequence[int]) -> int:
    return family.prefix + sum(lengths[member] - family.prefix for member in family.members)
