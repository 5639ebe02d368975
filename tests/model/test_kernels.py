"""The C kernels against torch in float64: values, gradients, odd sizes, strides, extremes, threads, switches."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.model import decoding, kernels, logprobs, tiles
from tutelage.model.fused import rms_norm, swiglu
from tutelage.model.logprobs import linear_logprobs
from tutelage.model.rope import rotate
from tutelage.model.transformer import RMSNorm

from .comparing import gradients

compiled = pytest.mark.skipif(not kernels.available(), reason=f"no kernels: {kernels.why_not()}")
few = settings(max_examples=25, deadline=None)
sizes = st.tuples(st.integers(1, 600), st.integers(1, 70))
magnitudes = st.sampled_from([1e-12, 1e-3, 1.0, 30.0, 1e12])
pytestmark = pytest.mark.usefixtures("kernels_of_every_size")
seeds = st.integers(0, 2**31)


def assert_same(function, reference, inputs, grad, scales=(), tolerance=1e-5):
    """Value and gradients within `tolerance` of the largest true value, which is computed in float64.

    `scales`: the size of the terms of each result, where they can cancel and leave a result that is much smaller.
    """
    found = gradients(function, inputs, grad)
    expected = gradients(reference, [tensor.double() for tensor in inputs], grad.double())
    for actual, true, scale in zip(found, expected, scales or [0.0] * len(found), strict=True):
        assert actual.dtype == torch.float32
        largest = max(true.abs().max().item(), float(scale))
        torch.testing.assert_close(actual.double(), true, rtol=tolerance, atol=tolerance * largest)


def normal(*shape, seed, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def torch_norm(x, weight):
    return F.rms_norm(x, weight.shape, weight, 1e-6)


@compiled
@few
@given(sizes, magnitudes, seeds)
def test_rms_norm(size, magnitude, seed):
    x, weight, grad = (
        normal(*size, seed=seed, scale=magnitude),
        normal(size[1], seed=seed + 1),
        normal(*size, seed=seed),
    )
    terms_x = (grad * weight).abs().max() / (x.square().mean(-1) + 1e-6).sqrt().min()
    scales = (0, terms_x, grad.abs().sum(0).max())
    assert_same(lambda x, w: rms_norm(x, w, 1e-6), torch_norm, (x, weight), grad, scales)


@compiled
@few
@given(sizes, magnitudes, seeds)
def test_swiglu(size, magnitude, seed):
    gate, up = normal(*size, seed=seed, scale=magnitude), normal(*size, seed=seed + 1)
    grad = normal(*size, seed=seed + 2)
    scales = (0, (grad * up).abs().max(), 0)
    assert_same(swiglu, lambda gate, up: F.silu(gate) * up, (gate, up), grad, scales)


@compiled
def test_swiglu_is_exact_to_a_few_units_over_the_whole_range():
    gate = torch.linspace(-100, 100, 200_001)
    found, expected = swiglu(gate, torch.ones_like(gate)).double(), F.silu(gate.double())
    normal_range = gate > -80
    relative = ((found - expected) / expected).abs()[normal_range & (gate != 0)]
    assert relative.max() < 5e-7
    assert (found[~normal_range] - expected[~normal_range]).abs().max() < 1e-30


@compiled
@few
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 20), st.booleans(), st.booleans(), seeds
)
def test_rotary_on_both_layouts(batch, heads, time, half, heads_first, one_table, seed):
    x = normal(batch, heads, time, 2 * half, seed=seed)
    x = x if heads_first else x.transpose(1, 2).contiguous().transpose(1, 2)
    angles = normal(1 if one_table else batch, 1, time, half, seed=seed + 1)
    cos = torch.cat((angles.cos(), angles.cos()), -1)
    sin = torch.cat((-angles.sin(), angles.sin()), -1)
    grad = normal(batch, heads, time, 2 * half, seed=seed + 2)

    def reference(x):
        return x * cos.double() + x.roll(half, -1) * sin.double()

    assert_same(lambda x: rotate(x, cos, sin), reference, (x,), grad, (x.abs().max(), grad.abs().max()))
    torch.testing.assert_close(rotate(x, cos, sin).norm(dim=-1), x.norm(dim=-1))


@compiled
@few
@given(st.integers(1, 50), st.integers(2, 300), st.sampled_from([0.5, 1.0, 1.7]), magnitudes, st.booleans(), seeds)
def test_logprobs(tokens, vocabulary, temperature, magnitude, equal, seed):
    hidden, weight = normal(1, tokens, 5, seed=seed), normal(vocabulary, 5, seed=seed + 1, scale=min(magnitude, 30.0))
    hidden = torch.zeros_like(hidden) if equal else hidden
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(-1, vocabulary, (1, tokens), generator=generator)

    def reference(hidden, weight):
        all_logprobs = (hidden @ weight.T / temperature).log_softmax(-1)
        return all_logprobs.gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1) * (targets >= 0)

    def entropy(hidden, weight):
        distribution = torch.distributions.Categorical(logits=hidden.double() @ weight.double().T / temperature)
        return distribution.entropy() * (targets >= 0)

    grad = normal(1, tokens, seed=seed + 2)
    weights, inputs = weight.abs().max(), hidden.abs().max()
    terms = grad.abs().sum() / temperature
    scales = (5 * weights * inputs / temperature, weights * terms, inputs * terms)

    def logprobs_of(hidden, weight):
        return linear_logprobs(hidden, weight, targets, temperature).logprobs

    assert_same(logprobs_of, reference, (hidden, weight), grad, scales)
    found = linear_logprobs(hidden, weight, targets, temperature).entropies
    torch.testing.assert_close(found.double(), entropy(hidden, weight), rtol=1e-4, atol=1e-5)


@compiled
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 7, 36])
def test_statistics_of_logits_that_are_not_finite_are_those_of_torch(value, place):
    logits = normal(3, 37, seed=0)
    logits[1, place] = value
    targets = torch.tensor([1, 2, 3])
    expected = logprobs.softmax_statistics(logits.clone(), targets, 1.0)
    found = logprobs.softmax_statistics_kernel(logits, targets, 1.0)
    for actual, true in zip(found, expected, strict=True):
        torch.testing.assert_close(actual, true, equal_nan=True)
    gradient = logprobs.softmax_gradient_kernel(logits.clone(), targets, found[1], torch.ones(3), 1.0)
    torch.testing.assert_close(
        gradient, logprobs.softmax_gradient(logits.clone(), targets, expected[1], torch.ones(3), 1.0), equal_nan=True
    )


@compiled
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_goes_through_as_in_torch(value):
    x, grad = normal(5, 33, seed=1), normal(5, 33, seed=2)
    x[2, 17] = value
    pairs = [
        (lambda x, w: rms_norm(x, w, 1e-6), torch_norm, torch.ones(33)),
        (swiglu, lambda gate, up: F.silu(gate) * up, normal(5, 33, seed=3)),
    ]
    for function, reference, other in pairs:
        expected = gradients(reference, (x, other), grad)
        for actual, true in zip(gradients(function, (x, other), grad), expected, strict=True):
            assert torch.equal(actual.isfinite(), true.isfinite())
            assert torch.equal(actual.isnan(), true.isnan())


@compiled
def test_every_bit_is_the_same_with_one_thread_and_two():
    x, weight, grad = normal(1111, 77, seed=0), normal(77, seed=1), normal(1111, 77, seed=2)
    heads = x[:1000].view(2, 5, 100, 77)[..., :76]
    angles = normal(2, 1, 100, 76, seed=3)
    targets = torch.randint(500, (1, 1111), generator=torch.Generator().manual_seed(4))
    logit_weight = normal(500, 77, seed=5)

    def everything():
        # matrix products are torch's own: one thread for them, so that only the kernels are compared
        logits = x[:, :50].contiguous()
        found = logprobs.softmax_statistics_kernel(logits, targets[0] % 50, 1.0)
        return [
            *gradients(lambda x, w: rms_norm(x, w, 1e-6), (x, weight), grad),
            *gradients(swiglu, (x, grad), grad),
            *gradients(lambda x: rotate(x, angles, angles), (heads,), heads),
            *found,
            logprobs.softmax_gradient_kernel(logits, targets[0] % 50, found[1], grad[:, 0], 0.9),
        ]

    torch.set_num_threads(1)
    one = everything()
    kept = gradients(lambda h, w: linear_logprobs(h[None], w, targets).logprobs, (x, logit_weight), grad[:, 0][None])
    torch.set_num_threads(2)
    two = everything()
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logprobs, "KEPT_ELEMENTS", 0)
        again = gradients(
            lambda h, w: linear_logprobs(h[None], w, targets).logprobs, (x, logit_weight), grad[:, 0][None]
        )
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))


@compiled
def test_a_second_backward_gives_the_same_gradient():
    hidden, weight = normal(1, 9, 4, seed=0).requires_grad_(), normal(30, 4, seed=1).requires_grad_()
    loss = linear_logprobs(hidden, weight, torch.arange(9)[None]).logprobs.sum()
    first = torch.autograd.grad(loss, (hidden, weight), retain_graph=True)
    second = torch.autograd.grad(loss, (hidden, weight))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@compiled
def test_gradients_of_gradients():
    x, weight, up = normal(4, 6, seed=0), normal(6, seed=1), normal(4, 6, seed=2)
    angles = normal(1, 1, 4, 6, seed=3)
    cases = [
        (lambda x, w: rms_norm(x, w, 1e-6), torch_norm, (x, weight)),
        (swiglu, lambda gate, up: F.silu(gate) * up, (x, up)),
        (
            lambda x: rotate(x[None, None], angles, angles).sin(),
            lambda x: (x * angles[0, 0] + x.roll(3, -1) * angles[0, 0]).sin(),
            (x,),
        ),
    ]
    for function, reference, inputs in cases:
        found = []
        for each in (function, reference):
            leaves = [tensor.detach().requires_grad_() for tensor in inputs]
            first = torch.autograd.grad(each(*leaves).square().sum(), leaves, create_graph=True)
            found.append(torch.autograd.grad(sum(tensor.square().sum() for tensor in first), leaves))
        for actual, true in zip(*found, strict=True):
            torch.testing.assert_close(actual, true, rtol=1e-4, atol=1e-4)


@compiled
def test_strided_inputs_and_gradients():
    x = normal(40, 30, seed=0).T
    assert not x.is_contiguous()
    grad = normal(1, seed=1).expand(30, 40)
    assert_same(lambda x, w: rms_norm(x, w, 1e-6), torch_norm, (x, torch.ones(40)), grad)
    assert_same(swiglu, lambda gate, up: F.silu(gate) * up, (x, x[:1].expand(30, 40)), grad)


def test_tensors_that_kernels_do_not_take_go_through_torch():
    class Marked(torch.Tensor):
        pass

    x = normal(4, 8, seed=0)
    for tensor in (x.double(), x.bfloat16(), x.as_subclass(Marked), torch.empty(4, 8, device="meta")):
        assert not kernels.takes(tensor)
        assert swiglu(tensor, tensor).dtype == tensor.dtype
    torch.testing.assert_close(torch.vmap(swiglu)(x, x), F.silu(x) * x)


def test_a_norm_with_weights_of_another_dtype():
    assert RMSNorm(8, 1e-6)(normal(4, 8, seed=0).bfloat16()).dtype == torch.bfloat16


def test_a_target_outside_of_the_vocabulary_is_an_error():
    with pytest.raises((IndexError, RuntimeError)):
        linear_logprobs(normal(1, 2, 4, seed=0), normal(30, 4, seed=1), torch.tensor([[1, 30]]))


def test_switched_off(monkeypatch):
    monkeypatch.setenv("TUTELAGE_KERNELS", "0")
    assert not kernels.available()
    assert "TUTELAGE_KERNELS" in kernels.why_not()
    x = normal(4, 8, seed=0)
    assert torch.equal(swiglu(x, x), F.silu(x) * x)


def test_without_a_compiler_the_reason_is_told(monkeypatch):
    monkeypatch.setattr(kernels, "_compilers", list)
    assert "no C compiler" in kernels._load.__wrapped__()[1]


def test_a_compiler_that_fails_is_named(monkeypatch, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "out of ideas" >&2\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kernels, "_compilers", lambda: [[str(compiler)]])
    found, reason = kernels._load.__wrapped__()
    assert found is None
    assert "out of ideas" in reason
    assert not list((tmp_path / "cache" / "tutelage").iterdir())


@compiled
def test_built_once_and_then_found(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernels._load.__wrapped__()[0] is not None
    (built,) = (tmp_path / "tutelage").iterdir()
    before = built.stat().st_mtime_ns
    assert kernels._load.__wrapped__()[0] is not None
    assert built.stat().st_mtime_ns == before


@compiled
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_one_openmp_library_in_the_process():
    code = "from tutelage.model import kernels; kernels.library(); print(open('/proc/self/maps').read())"
    environment = {**os.environ, "TUTELAGE_KERNELS": "1"}
    maps = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "tutelage/kernels-" in maps.stdout
    assert len(set(re.findall(r"\S*lib[gi]?omp\d?[-.]\S*", maps.stdout))) <= 1


def test_constants_are_those_of_the_source():
    source = "".join(path.read_text() for path in (*kernels.HEADERS, *kernels.SOURCES))
    constants = {"ROWS_PER_BLOCK": kernels.ROWS_PER_BLOCK, "AMX_BLOCK": tiles.BLOCK, "DEPTH": tiles.DEPTH,
                 "PANEL": decoding.PANEL, "WIDEST": decoding.WIDEST}  # fmt: skip
    for name, value in constants.items():
        assert re.findall(rf"^#define {name} (\d+)\b", source, re.MULTILINE) == [str(value)], name
    for name, types in kernels._SIGNATURES.items():
        plain = name.removesuffix("_float32").removesuffix("_bfloat16")
        arguments = re.search(rf"^void (?:NAME\({plain}\)|{name})\((.*?)\) {{", source, re.DOTALL | re.MULTILINE)
        assert arguments is not None
        assert len(arguments[1].split(",")) == len(types), name
        for argument, kind in zip(arguments[1].split(","), types, strict=True):
            expected = kernels._POINTER if "*" in argument else None
            for word, number in (("i64", kernels._INTEGER), ("int", kernels._INT), ("float", kernels._FLOAT)):
                expected = expected or (number if re.search(rf"\b{word}\b", argument) else None)
            assert kind is expected, (name, argument)
