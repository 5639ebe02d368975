"""Supervised fine-tuning: conversations, loss on the assistant's words only, mixed with replayed pretraining rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from tutelage.data.batches import Batch
from tutelage.data.conversations import render_set
from tutelage.data.packing import PackedRows, pack_rows
from tutelage.data.shards import TokenShard
from tutelage.data.streams import PretrainRows
from tutelage.data.template import Rendered
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import DataError
from tutelage.parallel.shard import shard
from tutelage.parallel.world import world_from_environment
from tutelage.run.stage import Inputs, StageRun
from tutelage.stages.configs import SFTConfig
from tutelage.stages.models import check_tokens, lengthen, open_trainable, publish_model, run_dtype
from tutelage.stages.pretrain import in_micro_batches, next_token_step, summed_loss
from tutelage.stages.replying.inputs import conversations_of
from tutelage.training.loop import fit
from tutelage.training.source import IndexedSource, epoch_positions

Row = TypeVar("Row")


def run(config: SFTConfig, inputs: Inputs, run: StageRun) -> None:
    """Train a base model to converse and publish the instruct model."""
    world = world_from_environment()
    dtype = run_dtype(config.precision, run, world)
    model, tokenizer = open_trainable(inputs["model"], dtype, config.lora, run.seed)
    context = lengthen(model, config.context, run.notes)
    rendered = render_set(tokenizer, conversations_of(inputs, config.passes, run.notes), context)
    run.notes.extend(rendered.notes(context))
    counted = list(zip(rendered.rows, rendered.passes, strict=True))
    learnt, watched = split(counted, config.validation_share, run.seed)
    train, held_out = [row for row, passes in learnt for _ in range(passes)], [row for row, _ in watched]
    run.metrics["num_conversations"] = len(train)
    if "replay" in inputs:
        check_tokens(inputs["replay"], tokenizer, inputs["model"])
    replay = PretrainRows(TokenShard(inputs["replay"].path, "train"), context, run.seed) if "replay" in inputs else None
    source = conversation_steps(train, replay, config, context, tokenizer, run.seed)
    shard(model, world)
    held_out_rows = pack_rows([r.ids for r in held_out], context, tokenizer.pad_id, [r.loss_mask for r in held_out])
    validation = in_micro_batches(held_out_rows, config.micro_batch_rows)

    def evaluate(step: int) -> dict[str, float]:
        total, count = summed_loss(model, validation)
        return {"validation/loss": total / max(count, 1.0)}

    fit(model, source, next_token_step, config.optimizer, config.loop, run, world=world,
        evaluate=evaluate if held_out else None, tokens=lambda batch: batch.num_tokens, description="sft")  # fmt: skip
    publish_model(model, tokenizer, run.directory, world)


def split(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """A seeded share set aside to watch the loss; nothing if that would be less than one row."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(rows)).tolist()
    num_held_out = int(len(rows) * share)
    return [rows[i] for i in order[num_held_out:]], [rows[i] for i in order[:num_held_out]]


def conversation_steps(
    rows: Sequence[Rendered],
    replay: PretrainRows | None,
    config: SFTConfig,
    context: int,
    tokenizer: TextTokenizer,
    seed: int,
) -> IndexedSource[Batch]:
    """Steps of `conversations_a_step` conversations, shuffled anew each epoch and packed, plus replayed rows."""
    if not rows:
        raise DataError("no conversation is left to train on", hint="lower validation_share, or add conversations")
    a_step = min(config.conversations_a_step, len(rows))
    num_steps = config.num_steps or max(1, round(config.epochs * len(rows) / a_step))

    def make(step: int) -> Sequence[Batch]:
        chosen = [rows[index] for index in epoch_positions(step * a_step, a_step, len(rows), seed)]
        packed = pack_rows([r.ids for r in chosen], context, tokenizer.pad_id, [r.loss_mask for r in chosen])
        batches = in_micro_batches(packed, config.micro_batch_rows)
        if replay is not None:
            replayed: PackedRows = replay.rows(step * config.replay_rows, config.replay_rows)
            batches += in_micro_batches(replayed, config.micro_batch_rows)
        return batches

    return IndexedSource(num_steps, make)
