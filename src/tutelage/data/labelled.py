"""Single replies labelled desirable or not, as token sequences; the two sides of a pair are two of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.data.completions import Completion, completion_of
from tutelage.data.pairs import same_words
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import DataError

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Labelled:
    """A reply with its verdict; `row` is where it comes from."""

    completion: Completion
    desirable: bool
    row: Row


@dataclass(frozen=True)
class LabelledSet:
    """Replies by split, and how many were left out: too long, empty, of an equal pair, or no true or false."""

    train: list[Labelled]
    validation: list[Labelled]
    num_too_long: int
    num_unusable: int

    def notes(self, context: int) -> list[str]:
        """What was dropped and why."""
        notes = []
        if self.num_too_long:
            notes.append(
                f"{self.num_too_long} replies are longer than the context of {context} tokens and were dropped"
            )
        if self.num_unusable:
            notes.append(
                f"{self.num_unusable} replies are empty, of pairs with two equal sides, or labelled neither true nor "
                "false and were dropped"
            )
        return notes


def render_labelled(tokenizer: TextTokenizer, rows: Iterable[Row], context: int) -> LabelledSet:
    """Render labelled rows and the distinct sides of pairs; DataError unless there are desirable and undesirable ones.

    A reply is used once under each label, however many pairs it is in.
    """
    found: dict[str, list[Labelled]] = {"train": [], "validation": []}
    seen: set[tuple[tuple[int, ...], bool]] = set()
    num_too_long = num_unusable = 0
    for row in rows:
        for text, finished, desirable in _sides(row):
            if not isinstance(desirable, bool) or not text.strip() or ("chosen" in row and same_words(row)):
                num_unusable += 1
                continue
            completion = completion_of(tokenizer, row["prompt"], text, finished)
            if len(completion.ids) > context:
                num_too_long += 1
            elif (key := (tuple(completion.ids), desirable)) not in seen:
                seen.add(key)
                found[row.get("split", "train")].append(Labelled(completion, desirable, row))
    if len({labelled.desirable for labelled in found["train"]}) < 2:
        raise DataError(
            "desirable and undesirable replies are both needed to train on; there are "
            f"{len(found['train'])} of one kind, "
            f"{num_too_long} longer than the context of {context} tokens, {num_unusable} empty or equal",
            hint="give replies of both labels, shorter ones, or a model with a longer context",
        )
    return LabelledSet(found["train"], found["validation"], num_too_long, num_unusable)


def _sides(row: Row) -> Iterator[tuple[str, bool, bool]]:
    """(text, finished, desirable) of a row's replies."""
    if "completion" in row:
        yield row["completion"], row.get("finished", True), row["label"]
        return
    yield row["chosen"], row.get("chosen_finished", True), True
    yield row["rejected"], row.get("rejected_finished", True), False
