"""What a student learns from: replies and pretraining text, with what the teacher expects of every token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

from tutelage.data.batches import Batch
from tutelage.data.completions import Completion, completion_of
from tutelage.data.conversations import render_set
from tutelage.data.packing import pack
from tutelage.data.passages import Passages, shard_passages
from tutelage.data.streams import PretrainRows
from tutelage.data.template import Rendered
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import DataError
from tutelage.model.top_logprobs import Tops
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl
from tutelage.stages.distillation.on_policy import OwnReplies
from tutelage.stages.distillation.settings import DistillConfig
from tutelage.stages.distillation.teacher import KnownTops
from tutelage.stages.replying.inputs import conversations_of
from tutelage.training.source import epoch_positions

Plan = Sequence[Sequence[int]]


class DistillBatch(NamedTuple):
    """Packed rows, and what the teacher expects at their targets, row after row; None if it was not asked.

    Rows that are the student's `own` are judged, not imitated.
    """

    rows: Batch
    teacher: Tops | None
    own: bool = False


@dataclass(frozen=True)
class Lesson:
    """Texts with what the teacher expects of them, if it was asked."""

    texts: Passages
    known: KnownTops | None
    context: int
    pad_id: int
    micro_batch_rows: int

    def packed(self, chosen: Sequence[int]) -> Plan:
        """Rows of these texts alone, as their places."""
        plan = pack([self.texts.lengths[place] for place in chosen], self.context)
        return [[chosen[index] for index in row] for row in plan]

    def batches(self, plan: Plan) -> list[DistillBatch]:
        """Rows of texts, as their places, in micro-batches."""
        found = []
        for start in range(0, len(plan), self.micro_batch_rows):
            laid = self.texts.lay(plan[start : start + self.micro_batch_rows], self.context, self.pad_id)
            found.append(DistillBatch(laid.rows, None if self.known is None else self.known.at(laid.numbers_N)))
        return found


class ReplySteps:
    """Replies by step, shuffled anew each epoch: those that are there, or the student's own to the same prompts."""

    def __init__(self, lesson: Lesson, train: Sequence[int], config: DistillConfig, own: OwnReplies, seed: int) -> None:
        self.lesson, self.train, self.own, self.seed = lesson, train, own, seed
        self.on_policy, self.a_step = config.on_policy, min(config.replies_a_step, len(train))

    def batches(self, step: int) -> list[DistillBatch]:
        """The replies of a step; none if there are none at all."""
        places = epoch_positions(step * self.a_step, self.a_step, len(self.train), self.seed)
        chosen = [self.train[place] for place in places]
        if int((step + 1) * self.on_policy) == int(step * self.on_policy):
            return self.lesson.batches(self.lesson.packed(chosen))
        texts = self.own.drawn(self.lesson.texts, chosen, step, self.lesson.context)
        unknown = replace(self.lesson, texts=texts, known=None)
        batches = unknown.batches(unknown.packed(range(len(texts))))
        return [DistillBatch(batch.rows, self.own.teacher.tops(batch.rows), own=True) for batch in batches]


class TextSteps:
    """Rows of pretraining text by step, as `PretrainRows` has them: of pieces that are the same in every epoch."""

    def __init__(
        self, rows: PretrainRows, num_steps: int, rows_a_step: int, lesson: Callable[[Passages], Lesson]
    ) -> None:
        self.rows, self.rows_a_step = rows, rows_a_step
        used = sorted(set(chain.from_iterable(rows.pieces(0, num_steps * rows_a_step))))
        self.places = {piece: place for place, piece in enumerate(used)}
        self.lesson = lesson(shard_passages(rows.shard, used))

    def batches(self, step: int) -> list[DistillBatch]:
        """The rows of a step."""
        rows = self.rows.pieces(step * self.rows_a_step, self.rows_a_step)
        return self.lesson.batches([[self.places[piece] for piece in row] for row in rows])


def replies(inputs: Inputs, tokenizer: TextTokenizer, context: int, run: StageRun) -> list[Rendered | Completion]:
    """Conversations and completions that fit into `context` tokens; a note on those that do not.

    DataError if there are inputs of the kind, and nothing of them is left.
    """
    found: list[Rendered | Completion] = []
    if any(field.split(".")[0] == "conversations" for field in inputs):
        rendered = render_set(tokenizer, conversations_of(inputs), context)
        run.notes.extend(rendered.notes(context))
        found += rendered.rows
    if "completions" in inputs:
        found += _completions(inputs, tokenizer, context, run)
    return found


def _completions(inputs: Inputs, tokenizer: TextTokenizer, context: int, run: StageRun) -> list[Completion]:
    every = [
        completion_of(tokenizer, row["prompt"], row["completion"], ended=row["finish_reason"] == "stop")
        for row in read_jsonl(inputs["completions"].path / "completions.jsonl")
    ]
    fitting = [one for one in every if one.num_prompt < len(one.ids) <= context]
    if not fitting:
        raise DataError(
            f"{inputs['completions'].name}: of {len(every)} completions none has a token to learn and fits into "
            f"{context} tokens",
            hint="raise context, or look at the stage that makes them",
        )
    if len(fitting) < len(every):
        run.notes.append(
            f"{len(every) - len(fitting)} completions are empty, or longer than the context of {context} tokens, and "
            "were dropped"
        )
    return fitting
