"""Distillation (Hinton et al., arXiv 1503.02531): a student learns the whole next-token distribution of a teacher.

On texts that are there, of which the teacher is asked once, or on the student's own replies (Agarwal et al., arXiv
2306.13649), of which it is asked as they are written. Models of different tokenizers have no common distribution: the
student can learn the teacher's words alone (Kim & Rush, arXiv 1606.07947).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from tutelage.data.passages import Passages, passages
from tutelage.data.shards import Split, TokenShard
from tutelage.data.streams import PretrainRows
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import TrainingError
from tutelage.objectives.distill import table_loss
from tutelage.objectives.types import LossOutput
from tutelage.parallel.shard import shard
from tutelage.parallel.world import world_from_environment
from tutelage.run.stage import Inputs, StageRun
from tutelage.stages.alignment.preference import validation
from tutelage.stages.configs import DistillConfig
from tutelage.stages.distillation.lessons import DistillBatch, Lesson, ReplySteps, TextSteps, replies
from tutelage.stages.distillation.on_policy import OwnReplies
from tutelage.stages.distillation.student import check_teacher, context_of, open_student
from tutelage.stages.distillation.teacher import known_tops, open_teacher
from tutelage.stages.models import check_tokens, publish_model, run_dtype
from tutelage.stages.pretrain import next_token_step, validation_loss
from tutelage.stages.sft import split
from tutelage.training.loop import Evaluate, fit
from tutelage.training.source import IndexedSource

Step = Callable[[nn.Module, DistillBatch], LossOutput]


def run(config: DistillConfig, inputs: Inputs, run: StageRun) -> None:
    """Train a student on what a teacher expects, and publish it."""
    world = world_from_environment()
    if config.on_policy and world.size > 1:
        raise TrainingError("on_policy decodes with whole weights, in one process", hint="run it without torchrun")
    dtype = run_dtype(config.precision, run, world)
    student, tokenizer = open_student(config, inputs, dtype, run)
    check_teacher(config, inputs, student, tokenizer, run)
    context = context_of(config, inputs, student)

    def lesson(texts: Passages) -> Lesson:
        asked = config.next_token_share < 1
        teacher = open_teacher(config, inputs, dtype)
        known = known_tops(teacher, texts, context, tokenizer.pad_id, run, world) if asked else None
        return Lesson(texts, known, context, tokenizer.pad_id, config.micro_batch_rows)

    spoken = lesson(passages(replies(inputs, tokenizer, context, run)))
    train, held_out = split(range(len(spoken.texts)), config.validation_share, run.seed)
    own = OwnReplies(student, tokenizer, open_teacher(config, inputs, dtype), config, run.seed)
    said = ReplySteps(spoken, train, config, own, run.seed)
    rows = _text(inputs, tokenizer, "train", context, run.seed)
    num_steps = config.num_steps or max(1, round(config.epochs * _steps_an_epoch(config, said, rows)))
    written = None if rows is None else TextSteps(rows, num_steps, config.rows_a_step, lesson)

    def make(number: int) -> list[DistillBatch]:
        return [*said.batches(number), *(written.batches(number) if written else [])]

    step, source = distill_step(config), IndexedSource(num_steps, make)
    unseen = spoken.batches(spoken.packed(held_out))

    def watch_replies(number: int) -> dict[str, float]:
        return validation(student, step, unseen)

    evaluate: Evaluate | None = watch_replies if unseen else None
    if not train and (text := _text(inputs, tokenizer, "validation", context, 0)):
        evaluate = validation_loss(student, text, text.shard.num_bytes, config.validation_rows, num_steps)
    shard(student, world)
    fit(student, source, step, config.optimizer, config.loop, run, world=world, evaluate=evaluate,
        tokens=lambda batch: batch.rows.num_tokens, description="distill")  # fmt: skip
    publish_model(student, tokenizer, run.directory, world)


def _text(inputs: Inputs, tokenizer: TextTokenizer, half: Split, context: int, seed: int) -> PretrainRows | None:
    if "tokens" not in inputs:
        return None
    check_tokens(inputs["tokens"], tokenizer, inputs.get("model", inputs.get("tokenizer", inputs["teacher"])))
    return PretrainRows(TokenShard(inputs["tokens"].path, half), context, seed)


def _steps_an_epoch(config: DistillConfig, said: ReplySteps, rows: PretrainRows | None) -> float:
    if said.train:
        return len(said.train) / said.a_step
    return 0.0 if rows is None else rows.rows_per_epoch / config.rows_a_step


def distill_step(config: DistillConfig) -> Step:
    """The loss against the teacher's likeliest tokens and "another one"; the plain one of rows it was not asked about.

    Of the student's own rows, which are not imitated, all is divergence. Metrics: `distill/agreement`, the share of
    tokens at which both find the same one likeliest; of own rows `own/divergence` and `own/agreement`.
    """

    def step(model: nn.Module, batch: DistillBatch) -> LossOutput:
        rows, teacher = batch.rows, batch.teacher
        if teacher is None:
            return next_token_step(model, rows)
        student = model(
            *(rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT),
            targets_BT=rows.targets_BT,
            tokens_NK=teacher.tokens_NK,
            temperature=config.temperature,
        )
        share = 0.0 if batch.own else config.next_token_share
        output = table_loss(
            student.table, teacher.table, student.targets_N, beta=config.divergence_beta, next_token_share=share
        )
        alike = (student.likeliest_N == teacher.tokens_NK[:, 0]).sum().to(output.count)
        metrics = {**output.metrics, "distill/agreement": (alike, output.count)}
        if batch.own:
            metrics = {f"own/{name}": metrics[f"distill/{name}"] for name in ("divergence", "agreement")}
        return replace(output, metrics=metrics)

    return step
