"""A student beside its teacher: what it kept of its score, how often they agree, how large and how fast each is."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.data.batches import Batch
from tutelage.data.completions import Completion, in_token_batches, pack_completions
from tutelage.evaluation.harness import Row, Subject, completions_of
from tutelage.evaluation.statistics import Estimate, bootstrap_mean, wilson
from tutelage.evaluation.tasks import Result, estimated
from tutelage.generation.sampling import Sampling
from tutelage.model.transformer import CausalLM

FORWARD_TOKENS = 4096
ROUNDS = 3


def beside_teacher(
    teacher: Subject, subjects: Sequence[Subject], results: Sequence[Result], replies: Sequence[Completion], seed: int
) -> list[Result]:
    """Rows of every model's score and size and, of all but the teacher, of what they have in common with it.

    Along `replies`, which are the teacher's, they agree or not; a model with other tokens has no such rows.
    """
    whole = score(teacher, results)
    found = []
    for subject in subjects:
        label = subject.label
        own = score(subject, results)
        if own and whole and whole.value:
            found.append(estimated(label, "score", "accuracy", own))
            found.append(estimated(label, "score", "kept_share", _of(own, whole.value)))
        size = size_of(subject.model)
        found.append(estimated(label, "size", "parameters", _exactly(size)))
        found.append(estimated(label, "size", "teacher_share", _exactly(size / size_of(teacher.model))))
        if subject is not teacher and replies and subject.tokenizer.fingerprint == teacher.tokenizer.fingerprint:
            shares, nats = agreement(teacher.model, subject.model, replies, teacher.tokenizer.pad_id)
            found.append(estimated(label, "teacher", "agreement", bootstrap_mean(shares, seed=seed)))
            found.append(estimated(label, "teacher", "nats", bootstrap_mean(nats, seed=seed)))
    return found


def score(subject: Subject, results: Sequence[Result]) -> Estimate | None:
    """Right answers of all tasks that have them, item by item; None if there is no such task."""
    rows = [row for row in results if row["model"] == subject.label and row["metric"] == "accuracy"]
    right = round(sum(row["value"] * row["n"] for row in rows))
    return wilson(right, sum(row["n"] for row in rows)) if rows else None


def _of(own: Estimate, whole: float) -> Estimate:
    """As a share of what the teacher reached, which is taken as it is."""
    return Estimate(own.value / whole, own.ci_low / whole, own.ci_high / whole, own.n)


def _exactly(value: float) -> Estimate:
    return Estimate(value, value, value, 1)


def size_of(model: CausalLM) -> int:
    """Parameters; a tied matrix is one."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def agreement(
    teacher: CausalLM, student: CausalLM, replies: Sequence[Completion], pad_id: int
) -> tuple[list[float], list[float]]:
    """Of each reply: the share of tokens at which both find the same one likeliest; KL(teacher ‖ student), a mean."""
    shares: list[float] = []
    divergences: list[float] = []
    for part in in_token_batches(replies, FORWARD_TOKENS):
        packed = pack_completions([replies[index] for index in part], pad_id)
        mask_BT = packed.rows.targets_BT >= 0
        theirs_NV, ours_NV = (_logprobs(model, packed.rows, mask_BT) for model in (teacher, student))
        same_N = (theirs_NV.argmax(-1) == ours_NV.argmax(-1)).float()
        kl_N = torch.nn.functional.kl_div(ours_NV, theirs_NV, reduction="none", log_target=True).sum(-1)
        counts = packed.sums(mask_BT.float())
        for values_N, means in ((same_N, shares), (kl_N, divergences)):
            laid_BT = values_N.new_zeros(mask_BT.shape).masked_scatter(mask_BT, values_N)
            means += (packed.sums(laid_BT) / counts).tolist()
    return shares, divergences


def _logprobs(model: CausalLM, rows: Batch, mask_BT: Tensor) -> Tensor:
    """Of all tokens [N, V] where a reply's token is to come."""
    hidden_BTD = model.hidden(rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT)
    logits: Tensor = model.lm_head(hidden_BTD[mask_BT])
    return logits.float().log_softmax(-1)


def speeds(subjects: Sequence[Subject], rows: Sequence[Row], max_tokens: int) -> dict[str, float]:
    """Tokens a second of greedy replies to the same prompts; the models take turns, and the best of a few counts."""
    best = dict.fromkeys((subject.label for subject in subjects), 0.0)
    for _ in range(ROUNDS):
        for subject in subjects:
            began = time.perf_counter()
            answers = subject.reply(rows, Sampling(max_tokens, 0.0))
            seconds = time.perf_counter() - began
            drawn = sum(len(one.ids) - one.num_prompt for one in completions_of(answers))
            best[subject.label] = max(best[subject.label], drawn / seconds)
    return best
