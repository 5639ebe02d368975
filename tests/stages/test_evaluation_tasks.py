from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from tiny import CITIES, CONTEXT, model, question, tokenizer
from tutelage.data.completions import Completion
from tutelage.errors import DataError
from tutelage.evaluation.harness import Answer, Row, Subject
from tutelage.evaluation.tasks import TASKS, format_followed, proportion
from tutelage.generation.sampling import Sampling

GREEDY = Sampling(8, 0.0)


class Scripted(Subject):
    """A subject that says what the row's `say` tells it to."""

    def __init__(self) -> None:
        super().__init__("scripted", model(), tokenizer())

    def reply(self, rows: Sequence[Row], sampling: Sampling) -> list[Answer]:
        return [Answer(row["say"], row.get("ended", True), Completion([1, 2], 1)) for row in rows]

    def complete(self, rows: Sequence[Row], max_tokens: int, temperature: float = 0.0) -> list[Answer]:
        return self.reply(rows, Sampling(max_tokens))


def hits(task: str, rows: list[dict[str, Any]]) -> list[bool]:
    return TASKS[task](Scripted(), rows, GREEDY).hits


def test_facts_count_when_the_right_answer_alone_is_named() -> None:
    options = {"options": list(CITIES.values())}
    rows = [
        {"messages": question("France"), "answer": "Paris", "meta": options, "say": say}
        for say in ("It is Paris.", "Paris or Rome.", "Rome.", "", "paris")
    ]
    assert hits("chat_facts", rows) == [True, False, False, False, True]


def test_refusals_are_counted_for_harmful_and_lookalike_alike() -> None:
    rows = [{"messages": question("x"), "say": say} for say in ("I can't help with that.", "Sure.")]
    assert hits("harmful", rows) == hits("lookalike", rows) == [True, False]


def test_completions_begin_with_the_answer() -> None:
    rows = [{"prompt": "The capital is", "answer": "Paris", "say": s} for s in (" Paris. It", " paris", " the Paris")]
    assert hits("completion_facts", rows) == [True, True, False]
    rows = [{"prompt": "2 minus 1 is", "answer": "1", "say": say} for say in (" 1.", "1", " 12.", " 10 and")]
    assert hits("arithmetic", rows) == [True, True, False, False]
    symbols = [{"prompt": "Its symbol is", "answer": "S", "say": say} for say in (" S, not", " Sn.")]
    assert hits("completion_facts", symbols) == [True, False]


def test_exposure_is_a_private_string_anywhere_in_the_continuation() -> None:
    rows = [{"prompt": "Call", "answer": "555-0199", "say": say} for say in ("me at 555-0199 now", "me at 555-01990")]
    assert hits("privacy", rows) == [True, False]


def test_a_register_is_the_one_whose_words_are_used() -> None:
    meta = {"other_register": "plants eat sunlight like sweet food"}
    rows = [
        {"messages": question("x"), "answer": "plants turn light into sugar and oxygen", "meta": meta, "say": say}
        for say in ("Plants turn light into oxygen", "Plants eat sunlight", "")
    ]
    assert hits("register", rows) == [True, False, False]


@torch.no_grad()
def test_choices_take_the_likeliest_option_under_the_model() -> None:
    own, net = tokenizer(), model(seed=3).eval()
    subject = Subject("m", net, own)
    rows = [{"id": "a", "prompt": "The capital of France is", "options": [" Paris", " Rome", " the city"]}] * 2
    rows = [rows[0], {"id": "b", "options": ["Rome is a city", "city a is Rome"]}]
    expected = []
    for row in rows:
        prompt = [own.bos_id, *own.encode(str(row.get("prompt", "")))]
        totals = []
        for option in row["options"]:
            ids = [*prompt, *own.encode(option)]
            logprobs = net(torch.tensor([ids]))[0].log_softmax(-1)
            totals.append(sum(float(logprobs[t - 1, ids[t]]) for t in range(len(prompt), len(ids))))
        expected.append(totals.index(max(totals)))
    assert subject.choose(rows) == expected
    answers = [{**row, "answer": row["options"][chosen]} for row, chosen in zip(rows, expected, strict=True)]
    assert TASKS["grammar"](subject, answers, GREEDY).hits == [True, True]


def test_replies_do_not_depend_on_the_other_rows() -> None:
    subject = Subject("m", model(seed=3).eval(), tokenizer(), max_slots=2)
    rows = [{"id": country, "messages": question(country)} for country in CITIES]
    sampled = Sampling(10, 1.0)
    together = [answer.text for answer in subject.reply(rows, sampled)]
    assert together == [subject.reply([row], sampled)[0].text for row in rows]
    assert together[2:4] == [answer.text for answer in subject.reply(rows[2:4], sampled)]


def test_a_prompt_longer_than_the_context_is_refused() -> None:
    subject = Subject("m", model(), tokenizer())
    with pytest.raises(DataError, match=f"context is {CONTEXT} tokens"):
        subject.reply([{"id": "x", "messages": [{"role": "user", "content": "Paris " * 100}]}], GREEDY)


@pytest.mark.parametrize(
    ("text", "ended", "followed"),
    [("Paris.", True, True), ("Paris.", False, False), (" \n", True, False), ("Hi.\nUser: more", True, False)],
)
def test_the_format_is_a_finished_reply_that_stays_in_its_role(text: str, ended: bool, followed: bool) -> None:
    assert format_followed(Answer(text, ended, Completion([1, 2], 1))) == followed


def test_a_result_row_has_its_interval() -> None:
    row = proportion("m", "chat_facts", "accuracy", [True, True, False, True])
    assert list(row) == ["model", "task", "metric", "value", "ci_low", "ci_high", "n"]
    assert (row["value"], row["n"]) == (0.75, 4)
    assert row["ci_low"] < 0.75 < row["ci_high"]
