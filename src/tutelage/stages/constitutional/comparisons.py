"""How likely one of two replies is the better one by a principle: by its rule, by a model, or by a server's votes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tutelage.constitutions.principles import Principle
from tutelage.constitutions.rules import RULES, Exchange, Finding
from tutelage.data.completions import Completion, completion_of, sequence_logprobs
from tutelage.generation.remote import Ask
from tutelage.generation.sampling import Sampling
from tutelage.run.stage import StageRun
from tutelage.stages.constitutional.writers import ModelWriter, Writer
from tutelage.stages.sample import request_seed

LETTERS = ("A", "B")


@dataclass(frozen=True)
class Comparison:
    """Two replies to one prompt under one principle; `seed` is for whatever is drawn."""

    name: str
    prompt: Sequence[dict[str, str]]
    replies: tuple[Exchange, Exchange]
    principle: Principle
    seed: int


def by_rule(comparison: Comparison, sharpness: float) -> tuple[float | None, str]:
    """σ(sharpness · (score of the first − score of the second)) and the objection to the worse one.

    None where the rule finds both alike: it then says nothing about them.
    """
    assert comparison.principle.rule is not None, "checked before anything is judged"
    rule = RULES[comparison.principle.rule]
    first, second = (rule(reply) for reply in comparison.replies)
    if first.score == second.score:
        return None, ""
    worse: Finding = min(first, second, key=lambda finding: finding.score)
    return 1 / (1 + math.exp(-sharpness * (first.score - second.score))), worse.objection


def by_logprobs(comparisons: Sequence[Comparison], judge: ModelWriter) -> list[float | None]:
    """P(first) from the log-probs of the answers A and B, averaged over both orders; None where it does not fit.

    The order counts: a small model prefers a letter more than a reply, and the mean of both orders has none of that.
    """
    context = judge.model.config.max_position_embeddings
    places: list[int] = []
    completions: list[Completion] = []
    for place, comparison in enumerate(comparisons):
        own = [
            completion_of(judge.tokenizer, question_of(comparison, turned), letter, ended=False)
            for turned in (False, True)
            for letter in LETTERS
        ]
        if max(len(completion.ids) for completion in own) <= context:
            places.append(place)
            completions += own
    found: list[float | None] = [None] * len(comparisons)
    if completions:
        sums_C22 = sequence_logprobs(judge.model, completions, judge.tokenizer.pad_id).view(-1, 2, 2)
        first_C2 = sums_C22.softmax(-1)[..., 0]
        mean_C = (first_C2[:, 0] + 1 - first_C2[:, 1]) / 2
        for place, probability in zip(places, mean_C.tolist(), strict=True):
            found[place] = probability
    return found


def by_votes(comparisons: Sequence[Comparison], judge: Writer, votes: int, run: StageRun) -> list[float | None]:
    """P(first) from `votes` answers in each order, (votes for it + 1) / (votes + 2); None where none names a letter."""
    sampling = Sampling(max_tokens=4, temperature=1.0)
    asks = [
        Ask(question_of(comparison, turned), sampling, request_seed(comparison.seed, turned), votes, comparison.name)
        for comparison in comparisons
        for turned in (False, True)
    ]
    answers = judge.write(asks, run, "judge")
    found: list[float | None] = []
    for place in range(len(comparisons)):
        named = [_letter(answer.text) for answer in answers[2 * place]]
        turned = [_letter(answer.text) for answer in answers[2 * place + 1]]
        first = named.count("A") + turned.count("B")
        total = first + named.count("B") + turned.count("A")
        found.append((first + 1) / (total + 2) if total else None)
    return found


def question_of(comparison: Comparison, turned: bool) -> list[dict[str, str]]:
    """One message with the conversation, the question and both replies, the second one first if `turned`."""
    first, second = reversed(comparison.replies) if turned else comparison.replies
    said = "\n".join(f"{message['role']}: {message['content']}" for message in comparison.prompt)
    text = (
        f"{said}\n\n{comparison.principle.question}\n(A) {first.reply}\n(B) {second.reply}\n\n"
        "Answer with one letter, A or B."
    )
    return [{"role": "user", "content": text}]


def _letter(text: str) -> str:
    """The letter that an answer begins with, bare or in brackets; "" for any other answer."""
    found = re.match(r"\W*([AB])\b", text)
    return found.group(1) if found else ""


def inference(comparisons: Sequence[Comparison], judge: Writer, votes: int, run: StageRun) -> list[float | None]:
    """Log-probs where the judge is a model of ours, votes where it is served."""
    if isinstance(judge, ModelWriter):
        with torch.no_grad():
            return by_logprobs(comparisons, judge)
    return by_votes(comparisons, judge, votes, run)
