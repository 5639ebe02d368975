"""A training step with and without the C kernels, whole and by part, alternating in one process.

    python benchmarks/bench_step.py [--shape quickstart] [--dtype float32 bfloat16] [--rounds 15] [--threads 1]

Other programs may share the cores, so what counts is the ratio of medians, not the times.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tutelage.model import kernels
from tutelage.model.attention import attention
from tutelage.model.config import ModelConfig
from tutelage.model.fused import rms_norm, swiglu
from tutelage.model.logprobs import linear_logprobs
from tutelage.model.rope import inverse_frequencies, rotary_tables, rotate
from tutelage.model.transformer import CausalLM, Linear, initialise
from tutelage.run.machine import use_large_pages
from tutelage.training.optim import build_optimizers
from tutelage.training.settings import OptimizerSettings

Run = Callable[[], None]


@dataclass(frozen=True)
class Shape:
    """A model and a batch of it."""

    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    batch: int
    time: int
    documents: int  # a row
    optimizer: Literal["muon", "adamw"]

    @property
    def config(self) -> ModelConfig:
        """The model: heads of 64."""
        return ModelConfig(
            model_type="llama",
            vocab_size=self.vocab,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            head_dim=64,
            max_position_embeddings=self.time,
        )


SHAPES = {
    "quickstart": Shape(4096, 128, 352, 5, 2, batch=8, time=256, documents=3, optimizer="muon"),
    "llama-17m": Shape(16384, 384, 1024, 6, 6, batch=64, time=128, documents=1, optimizer="adamw"),
}


def forward_backward(function: Callable[..., Tensor], *inputs: Tensor) -> Run:
    inputs = tuple(tensor.detach().requires_grad_() for tensor in inputs)
    grad = torch.randn_like(function(*inputs))

    def run() -> None:
        for tensor in inputs:
            tensor.grad = None
        function(*inputs).backward(grad)

    return run


def part_rms_norm(shape: Shape, dtype: torch.dtype) -> Run:
    x = torch.randn(shape.batch * shape.time, shape.hidden, dtype=dtype)
    return forward_backward(lambda x, w: rms_norm(x, w, 1e-6), x, torch.ones(shape.hidden))


def part_swiglu(shape: Shape, dtype: torch.dtype) -> Run:
    return forward_backward(swiglu, *torch.randn(2, shape.batch * shape.time, shape.intermediate, dtype=dtype))


def part_rotary(shape: Shape, dtype: torch.dtype) -> Run:
    positions = torch.arange(shape.time).expand(shape.batch, shape.time)
    cos, sin = rotary_tables(inverse_frequencies(shape.config), positions, torch.float32)
    x = torch.randn(shape.batch, shape.time, shape.heads, 64, dtype=dtype)
    return forward_backward(lambda x: rotate(x.transpose(1, 2), cos, sin), x)


def part_attention(shape: Shape, dtype: torch.dtype) -> Run:
    heads = torch.randn(3, shape.batch, shape.time, shape.heads, 64, dtype=dtype).transpose(2, 3)
    return forward_backward(lambda q, k, v: attention(q, k, v, None), *heads)


def part_linear(shape: Shape, dtype: torch.dtype) -> Run:
    layer = Linear(shape.hidden, shape.intermediate, bias=False)
    return forward_backward(layer, torch.randn(shape.batch, shape.time, shape.hidden, dtype=dtype))


def part_logprobs(shape: Shape, dtype: torch.dtype) -> Run:
    """Its matrix products included."""
    hidden = torch.randn(shape.batch, shape.time, shape.hidden, dtype=dtype)
    targets = torch.randint(shape.vocab, (shape.batch, shape.time))
    weight = 0.02 * torch.randn(shape.vocab, shape.hidden)
    return forward_backward(lambda h, w: linear_logprobs(h, w, targets).logprobs, hidden, weight)


def whole_step(shape: Shape, dtype: torch.dtype) -> Run:
    model = initialise(CausalLM(shape.config, dtype), seed=0, zero_outputs=False)
    optimizers = build_optimizers(model, OptimizerSettings(kind=shape.optimizer))
    ids = torch.randint(shape.vocab, (shape.batch, shape.time))
    segments = (torch.arange(shape.time) * shape.documents // shape.time + 1).expand(shape.batch, shape.time)

    def run() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = -model(ids, segment_ids_BT=segments, targets_BT=ids).logprobs.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()

    return run


PARTS = {
    "rms_norm": part_rms_norm,
    "swiglu": part_swiglu,
    "rotary": part_rotary,
    "attention": part_attention,
    "linear": part_linear,
    "logprobs": part_logprobs,
    "whole step": whole_step,
}


def measure(runs: dict[str, Run], rounds: int) -> dict[tuple[str, str], float]:
    """Median seconds of each with ("1") and without ("0") kernels: of the processor if there is one thread."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[tuple[str, str], list[float]] = {(name, switch): [] for name in runs for switch in "10"}
    for turn in range(rounds + 2):
        for (name, switch), found in times.items():
            os.environ["TUTELAGE_KERNELS"] = switch
            began = clock()
            runs[name]()
            if turn >= 2:  # the first two warm up
                found.append(clock() - began)
    return {key: statistics.median(found) for key, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="quickstart")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], nargs="+", default=["float32"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", choices=list(PARTS), nargs="*", default=list(PARTS))
    chosen = parser.parse_args()
    use_large_pages()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    if not kernels.available():
        raise SystemExit(f"no kernels: {kernels.why_not()}")
    shape = SHAPES[chosen.shape]
    print(f"{'part':<12} {'dtype':<10} {'kernels ms':>10} {'torch ms':>10} {'ratio':>6} {'tokens/s':>9}")
    for name in chosen.part:
        medians = measure({each: PARTS[name](shape, getattr(torch, each)) for each in chosen.dtype}, chosen.rounds)
        for each in chosen.dtype:
            fast, slow = medians[each, "1"], medians[each, "0"]
            rate = f"{shape.batch * shape.time / fast:>9,.0f}" if name == "whole step" else ""
            print(
                f"{name:<12} {each:<10} {fast * 1e3:>10.2f} {slow * 1e3:>10.2f} {slow / fast:>6.2f} {rate}", flush=True
            )


if __name__ == "__main__":
    main()
