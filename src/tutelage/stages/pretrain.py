"""Pretraining: next-token prediction over packed documents, from random weights or on from another model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from tutelage.data.batches import Batch, make_batch
from tutelage.data.packing import PackedRows
from tutelage.data.shards import TokenShard, read_manifest
from tutelage.data.streams import ContinuousRows, PretrainRows, RowSource, SequentialRows
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import RecipeError
from tutelage.model.config import ModelConfig, shape_problem
from tutelage.model.transformer import CausalLM, initialise
from tutelage.objectives.types import LossOutput
from tutelage.parallel.shard import shard
from tutelage.parallel.world import world_from_environment
from tutelage.run.stage import Inputs, StageRun
from tutelage.stages.configs import ModelSettings, PretrainConfig
from tutelage.stages.models import check_tokens, lengthen, open_model, publish_model, run_dtype
from tutelage.training.loop import fit
from tutelage.training.source import IndexedSource


def run(config: PretrainConfig, inputs: Inputs, run: StageRun) -> None:
    """Train a base model on tokens and publish it with its tokenizer."""
    world = world_from_environment()
    dtype = run_dtype(config.precision, run, world)
    tokenizer = TextTokenizer.load(inputs["tokenizer"].path)
    check_tokens(inputs["tokens"], tokenizer, inputs["tokenizer"])
    tokens = inputs["tokens"].path
    manifest = read_manifest(tokens)
    model = _begin(config, inputs, tokenizer, dtype, run)
    run.metrics["num_parameters"] = sum(parameter.numel() for parameter in model.parameters())
    train, validation = TokenShard(tokens, "train"), TokenShard(tokens, "validation")
    rows: RowSource
    held_out: RowSource
    if manifest["boundaries"]:
        rows, held_out = PretrainRows(train, config.context, run.seed), PretrainRows(validation, config.context, 0)
    else:
        rows, held_out = ContinuousRows(train, config.context, run.seed), SequentialRows(validation, config.context)
    source = row_steps(rows, config)
    run.metrics["num_tokens"] = float(source.num_steps * _rows_a_step(config) * config.context)
    run.metrics["epochs"] = round(source.num_steps * _rows_a_step(config) / rows.rows_per_epoch, 3)
    shard(model, world)
    evaluate = validation_loss(model, held_out, validation.num_bytes, config.validation_rows, source.num_steps)
    fit(model, source, next_token_step, config.optimizer, config.loop, run, world=world, evaluate=evaluate,
        tokens=lambda batch: batch.num_tokens, description="pretrain")  # fmt: skip
    publish_model(model, tokenizer, run.directory, world)


def _begin(
    config: PretrainConfig, inputs: Inputs, tokenizer: TextTokenizer, dtype: torch.dtype, run: StageRun
) -> CausalLM:
    """Random weights, or those of `start`, which must know the same tokens."""
    if "start" not in inputs:
        shape = model_config(config.model, tokenizer.vocab_size, config.context)
        return initialise(CausalLM(shape, dtype), run.seed, config.model.embedding_std)
    model, own = open_model(inputs["start"], dtype)
    check_tokens(inputs["tokens"], own, inputs["start"])
    lengthen(model, config.context, run.notes)
    return model


def model_config(settings: ModelSettings, vocab_size: int, context: int) -> ModelConfig:
    """Fill in what follows from the width: heads of 64, SwiGLU of 8/3 the width rounded up to 32."""
    width = settings.hidden_size
    num_heads = settings.num_attention_heads or max(1, width // 64)
    config = ModelConfig(
        model_type=settings.model_type,
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=settings.intermediate_size or math.ceil(width * 8 / 3 / 32) * 32,
        num_hidden_layers=settings.num_hidden_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=settings.num_key_value_heads or num_heads,
        head_dim=settings.head_dim or width // num_heads,
        max_position_embeddings=context,
        rope_theta=settings.rope_theta,
        tie_word_embeddings=settings.tie_word_embeddings,
        qkv_bias=settings.model_type == "qwen2",
        rms_norm_eps=1e-6,
        initializer_range=settings.initializer_range,
    )
    problem = shape_problem(config)
    if problem:
        raise RecipeError(f"model: {problem}", hint="choose hidden_size, heads and head_dim that fit together")
    return config


def _rows_a_step(config: PretrainConfig) -> int:
    return max(1, config.global_batch_tokens // config.context)


def row_steps(rows: RowSource, config: PretrainConfig) -> IndexedSource[Batch]:
    """Steps of `global_batch_tokens`, in micro-batches of `micro_batch_tokens`."""
    a_step = _rows_a_step(config)
    micro = max(1, min(a_step, config.micro_batch_tokens // config.context))
    num_steps = config.num_steps or max(1, round(config.epochs * rows.rows_per_epoch / a_step))

    def make(step: int) -> Sequence[Batch]:
        return in_micro_batches(rows.rows(step * a_step, a_step), micro)

    return IndexedSource(num_steps, make)


def in_micro_batches(rows: PackedRows, micro: int) -> list[Batch]:
    """Split rows into batches of `micro` rows."""
    return [make_batch(rows.take(slice(start, start + micro))) for start in range(0, len(rows), micro)]


def next_token_step(model: nn.Module, batch: Batch) -> LossOutput:
    """−Σ log P(token | all before it in its document), and the number of such tokens."""
    logprobs, entropies = model(
        batch.input_ids_BT, batch.position_ids_BT, batch.segment_ids_BT, targets_BT=batch.targets_BT
    )
    count = torch.tensor(float(batch.num_targets))
    return LossOutput(-logprobs.sum(), count, {"entropy": (entropies.sum(), count)})


@torch.no_grad()
def row_losses(model: nn.Module, batch: Batch) -> list[float]:
    """−Σ log P of each row's targets, in nats."""
    logprobs, _ = model(batch.input_ids_BT, batch.position_ids_BT, batch.segment_ids_BT, targets_BT=batch.targets_BT)
    losses: list[float] = (-logprobs.sum(1)).tolist()
    return losses


def summed_loss(model: nn.Module, batches: Iterable[Batch]) -> tuple[float, float]:
    """The loss of held-out batches summed over their tokens, and the number of these."""
    outputs = [next_token_step(model, batch) for batch in batches]
    return sum(float(output.loss_sum) for output in outputs), sum(float(output.count) for output in outputs)


def validation_loss(
    model: CausalLM, rows: RowSource, num_bytes: int, max_rows: int, num_steps: int
) -> Callable[[int], dict[str, float]]:
    """Loss in nats a token and bits a byte of held-out text: of its first rows on the way, of all at the end."""

    def evaluate(step: int) -> dict[str, float]:
        every = rows.rows_per_epoch
        used = every if step == num_steps else min(every, max_rows)
        parts = (rows.rows(start, min(32, used - start)) for start in range(0, used, 32))
        total, count = summed_loss(model, map(make_batch, parts))
        metrics = {"validation/loss": total / max(count, 1.0)}
        if used == every and num_bytes:
            metrics["validation/bits_per_byte"] = total / math.log(2) / num_bytes
        return metrics

    return evaluate
