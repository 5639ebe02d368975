"""A training step with and without the C kernels, whole and by part, alternating in one process.

    python benchmarks/bench_step.py [--rounds 15] [--threads 1]

Other programs may share the cores, so what counts is the ratio of medians, not the times.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from tutelage.model import kernels
from tutelage.model.config import ModelConfig
from tutelage.model.fused import rms_norm, swiglu
from tutelage.model.logprobs import linear_logprobs
from tutelage.model.rope import inverse_frequencies, rotary_tables, rotate
from tutelage.model.transformer import CausalLM, initialise
from tutelage.training.optim import build_optimizers
from tutelage.training.settings import OptimizerSettings

B, T = 32, 256
CONFIG = ModelConfig(
    model_type="llama",
    vocab_size=2048,
    hidden_size=128,
    intermediate_size=352,
    num_hidden_layers=5,
    num_attention_heads=2,
    num_key_value_heads=2,
    head_dim=64,
    max_position_embeddings=T,
)


def forward_backward(function: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], None]:
    grad = torch.randn_like(function(*inputs))

    def run() -> None:
        for tensor in inputs:
            tensor.grad = None
        function(*inputs).backward(grad)

    return run


def part_rms_norm() -> Callable[[], None]:
    x, weight = torch.randn(B * T, CONFIG.hidden_size), torch.ones(CONFIG.hidden_size)
    return forward_backward(lambda x, w: rms_norm(x, w, 1e-6), x.requires_grad_(), weight.requires_grad_())


def part_swiglu() -> Callable[[], None]:
    gate, up = torch.randn(2, B * T, CONFIG.intermediate_size)
    return forward_backward(swiglu, gate.clone().requires_grad_(), up.clone().requires_grad_())


def part_rotary() -> Callable[[], None]:
    positions = torch.arange(T).expand(B, T)
    cos, sin = rotary_tables(inverse_frequencies(CONFIG), positions, torch.float32)
    x = torch.randn(B, T, CONFIG.num_attention_heads, CONFIG.head_dim).requires_grad_()
    return forward_backward(lambda x: rotate(x.transpose(1, 2), cos, sin), x)


def part_logprobs() -> Callable[[], None]:
    """Its three matrix products included."""
    hidden, weight = torch.randn(B, T, CONFIG.hidden_size), 0.02 * torch.randn(CONFIG.vocab_size, CONFIG.hidden_size)
    targets = torch.randint(CONFIG.vocab_size, (B, T))
    return forward_backward(
        lambda h, w: linear_logprobs(h, w, targets).logprobs, hidden.requires_grad_(), weight.requires_grad_()
    )


def whole_step() -> Callable[[], None]:
    model = initialise(CausalLM(CONFIG), seed=0)
    optimizers = build_optimizers(model, OptimizerSettings(kind="muon"))
    ids = torch.randint(CONFIG.vocab_size, (B, T))
    segments = (torch.arange(T) * 3 // T + 1).expand(B, T)  # three documents a row

    def run() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = -model(ids, segment_ids_BT=segments, targets_BT=ids).logprobs.mean()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    return run


PARTS = {
    "rms_norm": part_rms_norm,
    "swiglu": part_swiglu,
    "rotary": part_rotary,
    "logprobs": part_logprobs,
    "whole step": whole_step,
}


def measure(run: Callable[[], None], rounds: int) -> tuple[float, float]:
    """Median seconds with and without kernels: of the processor if there is one thread, else of the clock."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {"1": [], "0": []}
    for turn in range(rounds + 2):
        for switch, found in times.items():
            os.environ["TUTELAGE_KERNELS"] = switch
            began = clock()
            run()
            if turn >= 2:  # the first two warm up
                found.append(clock() - began)
    return statistics.median(times["1"]), statistics.median(times["0"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", choices=list(PARTS), nargs="*", default=list(PARTS))
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    if not kernels.available():
        raise SystemExit(f"no kernels: {kernels.why_not()}")
    print(f"{'part':<12} {'kernels ms':>10} {'torch ms':>10} {'ratio':>6}")
    for name in chosen.part:
        with_kernels, without = measure(PARTS[name](), chosen.rounds)
        print(f"{name:<12} {with_kernels * 1e3:>10.2f} {without * 1e3:>10.2f} {without / with_kernels:>6.2f}")
        if name == "whole step":
            print(f"tokens/s     {B * T / with_kernels:>10,.0f} {B * T / without:>10,.0f}")


if __name__ == "__main__":
    main()
