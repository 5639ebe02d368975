"""Rows of files as items and, where they say what is better, as labels: rankings, pairs, verdicts, bare replies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pydantic import ValidationError

from tutelage.errors import DataError
from tutelage.labels.records import NewItem, Reply, Verdict
from tutelage.run.words import describe
from tutelage.sources.files import SourceFile
from tutelage.sources.preferences import prompt_of, reply_of, side_of
from tutelage.sources.records import parse_json, records
from tutelage.sources.rows import Format, NoFormat, ProblemLog, RowRefused
from tutelage.store.label_tables import MODEL, PERSON

Row = Mapping[str, Any]

FORMATS = (
    Format("ranking", ("prompt", "responses"), '{"prompt": "…", "responses": ["…", "…"], "ranks": [1, 2]}'),
    Format(
        "two responses",
        ("prompt", "response_a", "response_b"),
        '{"prompt": "…", "response_a": "…", "response_b": "…", "preferred": "a", "reason": "…"}',
    ),
    Format("prompt, chosen and rejected", ("prompt", "chosen", "rejected"),
           '{"prompt": "…", "chosen": "…", "rejected": "…"}'),
    Format("completion", ("prompt_id", "prompt", "completion"),
           '{"prompt_id": "…", "prompt": [{"role": "user", "content": "…"}], "completion": "…", "model": "…"}'),
)  # fmt: skip
_PREFERRED = {"a": [[0], [1]], "b": [[1], [0]], "tie": [[0, 1]], "both": [[0, 1]], "equal": [[0, 1]]}


@dataclass(frozen=True)
class Taken:
    """A row: an item, and what an annotator said of it, if anybody did."""

    item: NewItem
    verdict: Verdict | None = None
    annotator: str = ""
    kind: str = PERSON
    shown: tuple[int, ...] = ()
    repeat: int = 0


def taken_from(files: Iterable[SourceFile], annotator: str, log: ProblemLog) -> Iterator[Taken]:
    """Every row that can be used; refused ones go to the log. Completions of one prompt become one item."""
    for file in files:
        loose: list[tuple[int, Row]] = []
        for record in records(file, log):
            try:
                if _format(record.row) is FORMATS[3]:
                    loose.append((record.line, record.row))
                else:
                    yield taken(record.row, annotator)
            except RowRefused as refused:
                log.refuse(str(file.path), record.line, refused)
        yield from _loose(file, loose, log)


def _loose(file: SourceFile, rows: Sequence[tuple[int, Row]], log: ProblemLog) -> Iterator[Taken]:
    ordered = sorted(rows, key=lambda pair: str(pair[1]["prompt_id"]))
    for _, group in groupby(ordered, key=lambda pair: str(pair[1]["prompt_id"])):
        own = list(group)
        try:
            prompt = prompt_of(own[0][1]["prompt"])
            yield Taken(_checked(item_of_completions([row for _, row in own], prompt=prompt)))
        except RowRefused as refused:
            log.refuse(str(file.path), own[0][0], refused)


def item_of_completions(rows: Sequence[Row], **changes: Any) -> NewItem:
    """Rows of `completions.jsonl` that share a prompt as one item; the same words twice are one reply."""
    first = rows[0]
    replies = {
        str(row["completion"]).strip(): Reply(
            row["completion"], str(row.get("model") or ""), row.get("finish_reason", "stop") == "stop",
            dict(row.get("sampling") or {}),
        )
        for row in reversed(rows)
    }  # fmt: skip
    item = NewItem(
        prompt=first["prompt"],
        replies=list(replies.values())[::-1],
        prompt_id=str(first["prompt_id"]),
        kind=str(first.get("kind") or "preference"),
        meta=dict(first.get("meta") or {}),
    )
    return NewItem(**{**vars(item), **changes})


def taken(row: Row, annotator: str) -> Taken:
    """The item of a row and its verdict; RowRefused says what is wrong with either."""
    kind = _format(row)
    if kind is None:
        raise NoFormat(row, FORMATS)
    row = _cells(row)
    prompt, texts, shown, said = _PARTS[kind.name](row)
    models, finished = _each(row, "models", str, len(texts)), _each(row, "finished", bool, len(texts))
    replies = [
        Reply(text, models[n] if models else "", finished[n] if finished else True) for n, text in enumerate(texts)
    ]
    stated = row.get("prompt_id")
    item = NewItem(prompt, replies, str(stated) if stated is not None else None, str(row.get("kind") or "preference"))
    verdict = _verdict({**said, **_remarks(row)})
    if verdict is not None:
        _refusing(lambda: verdict.check(len(texts)))
    own = str(row.get("annotator") or annotator)
    kind_of = MODEL if row.get("annotator_kind") == MODEL else PERSON
    return Taken(_checked(item), verdict, own, kind_of, shown, int(row.get("repeat") in (1, "1")))


def _ranked(row: Row) -> tuple[list[Any], list[str], tuple[int, ...], Row]:
    prompt, responses, ranks = prompt_of(row["prompt"]), row["responses"], row.get("ranks")
    if not isinstance(responses, list):
        raise RowRefused("`responses` is not a list", "write two to eight replies as a list")
    texts = [reply_of(response, "responses") for response in responses]
    shown = tuple(_each(row, "shown", int, len(texts)) or ())
    if shown and sorted(shown) != list(range(len(texts))):
        raise RowRefused("`shown` is not an order of the responses", "write each place once, from 0, or leave it out")
    if not ranks:
        return prompt, texts, shown, {}
    found = _each(row, "ranks", float, len(texts)) or []
    groups = [[place for place, rank in enumerate(found) if rank == own] for own in sorted(set(found))]
    return prompt, texts, shown, {"ranking": groups}


def _two(row: Row) -> tuple[list[Any], list[str], tuple[int, ...], Row]:
    texts = [reply_of(row["response_a"], "response_a"), reply_of(row["response_b"], "response_b")]
    said = str(row.get("preferred") or "").strip().lower().removeprefix("response").strip("_ ")
    if said in ("neither", "none"):
        return prompt_of(row["prompt"]), texts, (0, 1), {"all_bad": True}
    if said and said not in _PREFERRED:
        raise RowRefused("`preferred` names neither response", f"it is {said[:40]!r}: write a, b, tie or neither")
    return prompt_of(row["prompt"]), texts, (0, 1), {"ranking": _PREFERRED[said]} if said else {}


def _pair(row: Row) -> tuple[list[Any], list[str], tuple[int, ...], Row]:
    prompt = prompt_of(row["prompt"])
    sides = [side_of(row[name], name) for name in ("chosen", "rejected")]
    if any(before and before != prompt for before, _ in sides):
        raise RowRefused("`prompt` is not the beginning of chosen and rejected", "give in both only the reply")
    return prompt, [text for _, text in sides], (), {"ranking": [[0], [1]]}


_PARTS = {"ranking": _ranked, "two responses": _two, "prompt, chosen and rejected": _pair}


def _format(row: Row) -> Format | None:
    return next((one for one in FORMATS if all(row.get(key) not in (None, "") for key in one.keys)), None)


def _cells(row: Row) -> Row:
    """Lists and objects that a table's cell holds as JSON; empty cells are left out."""
    nested = ("prompt", "responses", "ranks", "flags", "soft", "shown", "models", "finished")
    return {
        name: parse_json(value)
        if name in nested and isinstance(value, str) and value.strip()[:1] in ("[", "{")
        else value
        for name, value in row.items()
        if value not in (None, "")
    }


def _each(row: Row, name: str, kind: type[Any], count: int) -> list[Any] | None:
    """A list of the row with one value of the kind for each reply; None if there is none."""
    values = row.get(name)
    if not values:
        return None
    kinds = (int, float) if kind is float else kind
    right = isinstance(values, list) and len(values) == count
    if not right or not all(isinstance(one, kinds) and (kind is bool or not isinstance(one, bool)) for one in values):
        wanted = {float: "numbers", int: "whole numbers", str: "texts", bool: "true or false"}[kind]
        raise RowRefused(f"`{name}` does not fit the replies", f"write {count} {wanted}, one for each reply")
    return list(values)


def _remarks(row: Row) -> dict[str, Any]:
    named = {"flags": "flags", "all_bad": "all_bad", "soft": "soft", "reason": "reason", "seconds": "seconds"}
    return {name: row[key] for name, key in named.items() if key in row}


def _verdict(said: Mapping[str, Any]) -> Verdict | None:
    """What a row says, if it says anything that is a judgement; a RowRefused names the field and its value."""
    if not any(said.get(name) for name in ("ranking", "flags", "all_bad", "soft")):
        return None
    try:
        return Verdict.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RowRefused(
            f"`{first['loc'][0]}` cannot be read", f"{field} is {describe(first['input'])}: {first['msg']}"
        ) from error


def _checked(item: NewItem) -> NewItem:
    _refusing(item.check)
    return item


def _refusing(check: Any) -> None:
    try:
        check()
    except DataError as error:
        raise RowRefused(error.message, error.hint) from error
