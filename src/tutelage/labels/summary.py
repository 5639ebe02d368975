"""What labels say about annotators and about models: agreement, constancy, position bias, the board."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any

import numpy as np

from tutelage.feedback.agreement import by_unit, cohen, comparisons, kendall_tau_b, krippendorff, nominal, ordinal
from tutelage.feedback.bradley_terry import Standing, board, groups
from tutelage.feedback.position import PositionBias, leaning, position_bias
from tutelage.labels.records import FLAGS, Label, Progress

RATING = {"bad": -1, "good": 1}


@dataclass(frozen=True)
class PairAgreement:
    """Two annotators on the items that both ranked; `None` where a number is undefined."""

    first: str
    second: str
    items: int
    kappa: float | None
    tau_b: float | None


@dataclass(frozen=True)
class SelfAgreement:
    """An annotator's second look at items against the first: the share of pairs of replies said the same of."""

    annotator: str
    items: int
    same: float
    tau_b: float | None


@dataclass(frozen=True)
class AnnotatorWork:
    """What one annotator did."""

    name: str
    kind: str
    labels: int
    repeats: int
    median_seconds: float | None


@dataclass(frozen=True)
class Statistics:
    """All of `tutelage label stats` but the board. Alphas are ordinal of rankings and ratings, nominal of flags."""

    progress: Progress
    annotators: list[AnnotatorWork]
    alpha_rankings: float | None
    alpha_ratings: float | None
    alpha_flags: dict[str, float | None]
    pairs: list[PairAgreement]
    self_agreement: list[SelfAgreement]
    position: PositionBias
    ties: float | None  # share of compared pairs that are ties
    all_bad: int


@dataclass(frozen=True)
class Board:
    """Models by strength, the strongest first; several `groups` cannot be compared with one another."""

    standings: list[Standing]
    groups: list[list[str]]


def statistics_of(labels: Sequence[Label], progress: Progress) -> Statistics:
    """Statistics of the labels that stand. Only first looks count, but for constancy."""
    first = [label for label in labels if label.repeat == 0]
    ranked = {name: {label.item: label for label in own if label.ranks} for name, own in _by_annotator(first).items()}
    compared = [value for label in first if label.ranks for value in comparisons(label.ranks).values()]
    return Statistics(
        progress=progress,
        annotators=_work(labels),
        alpha_rankings=krippendorff(by_unit(map(_compared, first)).values(), ordinal),
        alpha_ratings=krippendorff(by_unit(map(_ratings, first)).values(), ordinal),
        alpha_flags={flag: krippendorff(by_unit(_flagged(label, flag) for label in first).values(), nominal)
                     for flag in FLAGS},
        pairs=[_pair(a, b, ranked) for a, b in combinations(sorted(ranked), 2) if ranked[a].keys() & ranked[b].keys()],
        self_agreement=_constancy(labels),
        position=position_bias(leaning([label.ranks[place] for place in label.shown])
                               for label in first if label.ranks and label.shown),
        ties=compared.count(0) / len(compared) if compared else None,
        all_bad=sum(label.verdict.all_bad for label in first),
    )  # fmt: skip


def board_of(labels: Sequence[Label], seed: int) -> Board:
    """Bradley–Terry over replies of different models; what is said of one item is resampled together."""
    results: dict[int, dict[tuple[str, str], float]] = {}
    for label in labels:
        if label.repeat == 0:
            _count(label, results.setdefault(label.item, {}))
    standings = board([result for result in results.values() if result], seed=seed)
    names = sorted(row.model for row in standings)
    games = np.zeros((len(names), len(names)))
    for result in results.values():
        for (better, worse), count in result.items():
            games[names.index(better), names.index(worse)] += count
    return Board(standings, [[names[place] for place in group] for group in groups(games)])


def _count(label: Label, wins: dict[tuple[str, str], float]) -> None:
    """Wins of a label: 1 for the better model's reply, ½ each for a tie, a probability where a judge gives one."""
    found = [(i, j, (1 + value) / 2) for (i, j), value in _comparisons(label).items() if i < j]
    for i, j, probability in label.verdict.soft or found:
        a, b = label.replies[i].model, label.replies[j].model
        if a != b:
            for pair, share in (((a, b), probability), ((b, a), 1 - probability)):
                wins[pair] = wins.get(pair, 0.0) + share


def _comparisons(label: Label) -> dict[tuple[int, int], int]:
    return comparisons(label.ranks) if label.ranks else {}


def _compared(label: Label) -> Mapping[Any, int]:
    return {(label.item, *pair): value for pair, value in _comparisons(label).items()}


def _ratings(label: Label) -> Mapping[Any, int]:
    """Good, bad or neither, of every reply of a sheet on which somebody rated."""
    if not any(label.flagged(place, *RATING) for place in range(len(label.replies))):
        return {}
    return {
        (label.item, place): next((RATING[flag] for flag in label.verdict.flags.get(place, []) if flag in RATING), 0)
        for place in range(len(label.replies))
    }


def _flagged(label: Label, flag: str) -> Mapping[Any, bool]:
    return {(label.item, place): label.flagged(place, flag) for place in range(len(label.replies))}


def _by_annotator(labels: Iterable[Label]) -> dict[str, list[Label]]:
    found: dict[str, list[Label]] = {}
    for label in labels:
        found.setdefault(label.annotator, []).append(label)
    return found


def _work(labels: Sequence[Label]) -> list[AnnotatorWork]:
    rows = []
    for name, own in sorted(_by_annotator(labels).items()):
        times = [label.verdict.seconds for label in own if label.verdict.seconds is not None]
        repeats = sum(label.repeat > 0 for label in own)
        rows.append(
            AnnotatorWork(name, own[0].annotator_kind, len(own) - repeats, repeats, median(times) if times else None)
        )
    return rows


def _pair(first: str, second: str, ranked: Mapping[str, Mapping[int, Label]]) -> PairAgreement:
    shared = sorted(ranked[first].keys() & ranked[second].keys())
    both = [(ranked[first][item].ranks, ranked[second][item].ranks) for item in shared]
    values = [pair for a, b in both for pair in zip(comparisons(a).values(), comparisons(b).values(), strict=True)]
    return PairAgreement(first, second, len(shared), cohen(values), _mean_tau(both))


def _constancy(labels: Sequence[Label]) -> list[SelfAgreement]:
    firsts = {(label.annotator, label.item): label for label in labels if label.repeat == 0}
    rows = []
    for name, own in sorted(_by_annotator(label for label in labels if label.repeat > 0).items()):
        both = [(before.ranks, label.ranks) for label in own
                if (before := firsts.get((name, label.item))) and before.ranks and label.ranks]  # fmt: skip
        same = [x == y for a, b in both
                for x, y in zip(comparisons(a).values(), comparisons(b).values(), strict=True)]  # fmt: skip
        if same:
            rows.append(SelfAgreement(name, len(both), sum(same) / len(same), _mean_tau(both)))
    return rows


def _mean_tau(both: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float | None:
    found = [tau for a, b in both if (tau := kendall_tau_b(a, b)) is not None]
    return sum(found) / len(found) if found else None
