"""An AI judge over the same items as people: both orders of every pair, probabilities kept as soft labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, islice

from tutelage.constitutions.principles import Principle
from tutelage.constitutions.rules import Exchange
from tutelage.labels.records import NewItem, Verdict
from tutelage.labels.service import Labels
from tutelage.run.stage import StageRun
from tutelage.stages.constitutional.comparisons import Comparison, inference
from tutelage.stages.constitutional.writers import Writer
from tutelage.stages.sample import request_seed
from tutelage.store.label_tables import MODEL

QUESTION = "Which of these two replies is more helpful, accurate and harmless?"
ITEMS_AT_ONCE = 32  # stored together: a killed judge goes on after the last of them


def judge_items(
    labels: Labels, task: str, judge: Writer, name: str, question: str, votes: int, run: Callable[[int], StageRun],
    limit: int | None = None,
) -> tuple[int, int]:  # fmt: skip
    """Judge what `name` has not judged yet; returns how many items were judged and how many got no answer.

    `run` gives a place to work for each lot of items: a server's answers to one are not those to another.
    """
    known = {label.key for label in labels.labels(task) if label.annotator == name}
    waiting = iter([item for item in labels.items(task) if item.key not in known][:limit])
    judged = silent = lot = 0
    while items := list(islice(waiting, ITEMS_AT_ONCE)):
        for item, soft in zip(items, _asked(items, judge, question, votes, run(lot)), strict=True):
            verdict = verdict_of(soft, len(item.replies))
            if verdict is None:
                silent += 1
                continue
            labels.record(task, item, name, verdict, kind=MODEL)
            judged += 1
        lot += 1
    return judged, silent


def verdict_of(soft: Sequence[tuple[int, int, float]], num_replies: int) -> Verdict | None:
    """Probabilities of pairs, and the ranking by expected wins (Borda) if every pair was answered; None of nothing."""
    if not soft:
        return None
    wins = [0.0] * num_replies
    for first, second, p in soft:
        wins[first] += p
        wins[second] += 1 - p
    rounded = [round(won, 6) for won in wins]
    whole = len(soft) == num_replies * (num_replies - 1) // 2
    levels = sorted(set(rounded), reverse=True) if whole else []
    ranking = [[place for place, won in enumerate(rounded) if won == level] for level in levels]
    return Verdict(ranking=ranking, soft=[(first, second, round(p, 4)) for first, second, p in soft])


def _asked(
    items: Sequence[NewItem], judge: Writer, question: str, votes: int, run: StageRun
) -> list[list[tuple[int, int, float]]]:
    """For each item its pairs of places with P(first is better), as far as they were answered."""
    principle = Principle(question=question)
    comparisons, places = [], []
    for number, item in enumerate(items):
        for i, j in combinations(range(len(item.replies)), 2):
            sides = _exchange(item, i), _exchange(item, j)
            seed = request_seed(run.seed, item.key, i, j)
            prompt = [dict(message) for message in item.prompt]
            comparisons.append(Comparison("judge", prompt, sides, principle, seed))
            places.append((number, i, j))
    found: list[list[tuple[int, int, float]]] = [[] for _ in items]
    for (number, i, j), answer in zip(places, inference(comparisons, judge, votes, run), strict=True):
        if answer is not None:
            found[number].append((i, j, answer))
    return found


def _exchange(item: NewItem, place: int) -> Exchange:
    reply = item.replies[place]
    return Exchange(str(item.prompt[-1]["content"]), reply.text, reply.finished)
