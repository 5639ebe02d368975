"""Preferences: pairs, rankings and chosen/rejected transcripts, told apart by their fields."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.sources.conversations import row_id
from tutelage.sources.files import SourceFile
from tutelage.sources.messages import Message, assistant, check_order, dialogue_of, messages_of, user
from tutelage.sources.rankings import ordered_pairs
from tutelage.sources.records import records
from tutelage.sources.rows import Format, NoFormat, ProblemLog, RowRefused
from tutelage.sources.strength import strength_of

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """Two replies to one prompt, the first preferred; `shown` holds them as a judge saw them, when that is known."""

    prompt: list[Message]
    chosen: str
    rejected: str
    weight: float = 1.0
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unpaired:
    """One reply with a verdict (Ethayarajh et al. 2024, KTO): `label` says whether it is desirable."""

    prompt: list[Message]
    completion: str
    label: bool


@dataclass(frozen=True)
class PreferenceFormat(Format):
    """A row format and its conversion into pairs, or into unpaired replies."""

    convert: Callable[[Row], list[Pair] | list[Unpaired]]


def prompt_of(value: Any) -> list[Message]:
    """A prompt that ends with the user, from a string, a transcript or messages."""
    if isinstance(value, str):
        transcript = dialogue_of(value)
        if transcript is None:
            return check_order([user(value)], last="user")
        # A transcript may end with an empty "Assistant:", which asks for the reply.
        value = transcript[:-1] if transcript[-1] == assistant("") else transcript
    return check_order(messages_of(value), last="user")


def side_of(value: Any, name: str) -> tuple[list[Message], str]:
    """The turns before the last reply (none when only the reply is given) and the reply."""
    if isinstance(value, str):
        messages = dialogue_of(value) or [assistant(value)]
    else:
        messages = messages_of(value)
    last = messages[-1]
    if last["role"] != "assistant" or last.get("tool_calls"):
        raise RowRefused(f"`{name}` does not end with the assistant's text", "end it with an assistant turn of text")
    if not last["content"].strip():
        raise RowRefused(f"`{name}` is empty", "write the reply or remove the row")
    return messages[:-1], last["content"]


def _chosen_rejected(row: Row) -> list[Pair]:
    before_chosen, chosen = side_of(row["chosen"], "chosen")
    before_rejected, rejected = side_of(row["rejected"], "rejected")
    if before_chosen != before_rejected:
        mend = "both must be the same conversation up to the last assistant turn"
        raise RowRefused("chosen and rejected do not share their prompt", mend)
    if row.get("prompt") in (None, "", []):
        if not before_chosen:
            raise RowRefused("a pair without a prompt", "add `prompt`, or write whole conversations in both")
        return [_pair(check_order(before_chosen, last="user"), chosen, rejected)]
    prompt = prompt_of(row["prompt"])
    if before_chosen and before_chosen != prompt:
        raise RowRefused("`prompt` is not the beginning of chosen and rejected", "give in both only the reply")
    return [_pair(prompt, chosen, rejected)]


def _pair(prompt: list[Message], chosen: str, rejected: str, weight: float = 1.0, shown: tuple[str, ...] = ()) -> Pair:
    if chosen.strip() == rejected.strip():
        raise RowRefused("chosen equals rejected", "a pair must differ: remove the row")
    return Pair(prompt, chosen, rejected, weight, shown)


def _responses(row: Row) -> list[Pair]:
    prompt = prompt_of(row["prompt"])
    first, second = reply_of(row["response_a"], "response_a"), reply_of(row["response_b"], "response_b")
    preferred = str(row["preferred"]).strip().lower().removeprefix("response").strip("_ ")
    if preferred == "a":
        return [_pair(prompt, first, second, shown=(first, second))]
    if preferred == "b":
        return [_pair(prompt, second, first, shown=(first, second))]
    if preferred in ("tie", "both", "neither", "equal", "none"):
        raise RowRefused("a tie: neither response is preferred", "nothing to mend: a tie makes no pair")
    raise RowRefused("`preferred` names neither response", f"it is {row['preferred']!r}: write a, b or tie")


def reply_of(value: Any, name: str) -> str:
    """A reply without the conversation before it."""
    before, reply = side_of(value, name)
    if before:
        raise RowRefused(f"`{name}` is a whole conversation", "give only the reply there")
    return reply


def _ranking(row: Row) -> list[Pair]:
    """Every pair that the ranking orders."""
    prompt, responses, ranks = prompt_of(row["prompt"]), row["responses"], row["ranks"]
    if not (isinstance(responses, list) and isinstance(ranks, list) and len(responses) == len(ranks) >= 2):
        raise RowRefused("`responses` and `ranks` are not lists of one length", "give two or more, and a rank for each")
    if not all(isinstance(rank, (int, float)) and not isinstance(rank, bool) and abs(rank) < 1e9 for rank in ranks):
        raise RowRefused("`ranks` are not all numbers", "write numbers, 1 for the best; equal numbers are ties")
    replies = [reply_of(response, "responses") for response in responses]
    if len({reply.strip() for reply in replies}) < len(replies):
        raise RowRefused("`responses` has a reply twice", "give every reply once, with one rank")
    ordered, weight = ordered_pairs(ranks)
    pairs = [_pair(prompt, replies[better], replies[worse], weight) for better, worse in ordered]
    if not pairs:
        raise RowRefused("a tie: all responses have one rank", "nothing to mend: ties make no pair")
    return pairs


def _unpaired(row: Row) -> list[Unpaired]:
    label = _LABELS.get(str(row["label"]).strip().lower())  # the text too: a cell of a table has no other way
    if label is None:
        mend = f"it is {str(row['label'])[:40]!r}: write true or false"
        raise RowRefused("`label` is neither true nor false", mend)
    return [Unpaired(prompt_of(row["prompt"]), reply_of(row["completion"], "completion"), label)]


_LABELS = {"true": True, "false": False}  # not 1 and 0: a 1 may be the worst of five stars


RANKING = PreferenceFormat(
    "ranking",
    ("prompt", "responses", "ranks"),
    '{"prompt": "…", "responses": ["…", "…"], "ranks": [1, 2]}',
    _ranking,
)
FORMATS = (
    PreferenceFormat(
        "prompt, chosen and rejected",
        ("prompt", "chosen", "rejected"),
        '{"prompt": "…", "chosen": "…", "rejected": "…"}',
        _chosen_rejected,
    ),
    PreferenceFormat(
        "whole conversations",
        ("chosen", "rejected"),
        '{"chosen": [{"role": "user", "content": "…"}, …], "rejected": […]}',
        _chosen_rejected,
    ),
    PreferenceFormat(
        "two responses and a verdict",
        ("prompt", "response_a", "response_b", "preferred"),
        '{"prompt": "…", "response_a": "…", "response_b": "…", "preferred": "a", "reason": "…"}',
        _responses,
    ),
    RANKING,
)
UNPAIRED = PreferenceFormat(
    "unpaired",
    ("prompt", "completion", "label"),
    '{"prompt": "…", "completion": "…", "label": true}',
    _unpaired,
)


def preferences_of(row: Row) -> list[Pair] | list[Unpaired]:
    """Every pair in a row, or its unpaired reply; a RowRefused says why there is none."""
    found = _format(row)
    if found is None:
        raise NoFormat(row, FORMATS)
    return found.convert(row)


def num_ties(row: Row) -> int:
    """How many pairs of an accepted ranking have one rank and are left out; 0 of any other row."""
    return sum(math.comb(count, 2) for count in Counter(row["ranks"]).values()) if _format(row) is RANKING else 0


def _format(row: Row) -> PreferenceFormat | None:
    formats = (*FORMATS, UNPAIRED)
    return next((item for item in formats if all(row.get(key) is not None for key in item.keys)), None)


def preferences(files: Iterable[SourceFile], validation_share: float, log: ProblemLog) -> Iterator[dict[str, Any]]:
    """Rows of preferences.jsonl, pairs and single labelled replies; refused rows go to the log."""
    for file in files:
        position = 0
        for record in records(file, log):
            try:
                found = preferences_of(record.row)
                stated = {} if isinstance(found[0], Unpaired) else _strength(record.row)
            except RowRefused as refused:
                log.refuse(str(file.path), record.line, refused)
                continue
            if ties := num_ties(record.row):
                log.left_out["pairs of rankings are ties"] += ties
            for item in found:
                yield _stored(item, _about(record.row), stated, file.name, position, validation_share)
                position += 1


def _strength(row: Row) -> dict[str, float]:
    stated = strength_of(row)
    if _format(row) is RANKING and (own := [name for name in ("margin", "probability") if name in stated]):
        raise RowRefused(f"a ranking has one `{own[0]}` for all its pairs", "write pairs, or leave it out")
    return stated


def _about(row: Row) -> dict[str, str]:
    stated = {"kind": row.get("kind"), "annotator": row.get("annotator"), "reason": row.get("reason")}
    defaults = {"kind": "preference", "annotator": "unknown", "reason": ""}
    return {key: value if isinstance(value, str) else defaults[key] for key, value in stated.items()}


def _stored(
    item: Pair | Unpaired,
    about: dict[str, str],
    stated: dict[str, float],
    source: str,
    position: int,
    validation_share: float,
) -> dict[str, Any]:
    split = split_of(item.prompt, validation_share)
    if isinstance(item, Unpaired):
        own = {"completion": item.completion, "label": item.label}
        row = row_id(source, position, [item.prompt, item.completion, item.label])
        return {"id": row, "prompt": item.prompt, **own, **about, "split": split}
    return {
        "id": row_id(source, position, [item.prompt, item.chosen, item.rejected]),
        "prompt": item.prompt,
        "chosen": item.chosen,
        "rejected": item.rejected,
        "kind": about["kind"],
        "annotator": about["annotator"],
        "shown": list(item.shown),
        "reason": about["reason"],
        **stated,
        "weight": item.weight * stated.get("weight", 1.0),
        "split": split,
    }


def split_of(prompt: list[Message], validation_share: float) -> str:
    """`validation` for that share of all prompts, by the prompt's hash: a prompt's pairs never stand on both sides."""
    digest = hashlib.sha256(json.dumps(prompt, sort_keys=True).encode()).digest()
    return "validation" if int.from_bytes(digest[:8], "big") < validation_share * 2**64 else "train"
