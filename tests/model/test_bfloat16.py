"""bfloat16 through the C kernels: as near to float64 as rounding allows, and never further than torch's operations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.model import kernels, tile_logprobs, tiles
from tutelage.model.attention import attention, plain_attention
from tutelage.model.fused import rms_norm, swiglu
from tutelage.model.linear import linear
from tutelage.model.logprobs import linear_logprobs
from tutelage.model.rope import rotate

from .comparing import gradients

compiled = pytest.mark.skipif(not kernels.available(), reason=f"no kernels: {kernels.why_not()}")
with_tiles = pytest.mark.skipif(not kernels.available() or not tiles.available(), reason="no tile unit")
few = settings(max_examples=20, deadline=None)
pytestmark = pytest.mark.usefixtures("kernels_of_every_size")
seeds = st.integers(0, 2**31)
ROUNDING = 2.0**-8  # of one result; half of it to the nearest


def normal(*shape, seed, scale=1.0):
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).bfloat16()


def distance(found, true):
    return float((found.double() - true).norm() / true.norm().clamp(min=1e-30))


def assert_near(function, reference, inputs, grad, bound=ROUNDING):
    """Within `bound` of float64 by norm, and no further from it than torch's operations in bfloat16."""
    found = gradients(function, inputs, grad)
    theirs = gradients(reference, [tensor.bfloat16() for tensor in inputs], grad)
    true = gradients(reference, [tensor.double() for tensor in inputs], grad)
    for actual, other, exact, given_in in zip(found, theirs, true, [inputs[0], *inputs], strict=True):
        assert actual.dtype == given_in.dtype
        assert distance(actual, exact) <= min(bound, 1.02 * distance(other, exact) + 1e-4)


@compiled
@few
@given(st.integers(1, 600), st.integers(2, 70), st.sampled_from([1e-3, 1.0, 1e12]), seeds)
def test_rms_norm(rows, width, magnitude, seed):
    x, weight = normal(rows, width, seed=seed, scale=magnitude), normal(width, seed=seed + 1).float()

    def reference(x, w):
        return F.rms_norm(x, w.shape, w, 1e-6)

    assert_near(
        lambda x, w: rms_norm(x, w, 1e-6), reference, (x, weight), normal(rows, width, seed=seed + 2), bound=0.02
    )


@compiled
@few
@given(st.integers(1, 600), st.integers(1, 70), st.sampled_from([1e-3, 1.0, 30.0]), seeds)
def test_swiglu(rows, width, magnitude, seed):
    gate, up, grad = (normal(rows, width, seed=seed + n, scale=magnitude) for n in range(3))
    assert_near(swiglu, lambda gate, up: F.silu(gate) * up, (gate, up), grad)


@compiled
@few
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 20), st.booleans(), seeds)
def test_rotary(batch, heads, time, half, heads_first, seed):
    x, grad = normal(batch, heads, time, 2 * half, seed=seed), normal(batch, heads, time, 2 * half, seed=seed + 1)
    x = x if heads_first else x.transpose(1, 2).contiguous().transpose(1, 2)
    angles = normal(1, 1, time, half, seed=seed + 2).float()
    cos, sin = torch.cat((angles.cos(), angles.cos()), -1), torch.cat((-angles.sin(), angles.sin()), -1)

    def reference(x):
        return x * cos.to(x.dtype) + x.roll(half, -1) * sin.to(x.dtype)

    assert_near(lambda x: rotate(x, cos, sin), reference, (x,), grad)


@compiled
def test_rounding_is_that_of_torch_for_every_upper_half():
    """Through y = x · 1: every bfloat16 comes back, and halves between two go to the even one."""
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).view(1, 1, 1, -1)
    once = torch.ones(1, 1, 1, every.shape[-1])
    found = rotate(every, once, 0 * once)
    other = every.roll(every.shape[-1] // 2, -1)  # infinite times 0 is NaN
    assert torch.equal(found.isnan(), every.isnan() | ~other.isfinite())
    kept = ~found.isnan()
    assert torch.equal(found[kept], every[kept])
    scaled = rotate(every, 1.00390625 * once, 0 * once)
    assert torch.equal(scaled[kept], (every.float() * 1.00390625)[kept].bfloat16())


@compiled
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_goes_through_as_in_torch(value):
    x, grad = normal(5, 33, seed=1), normal(5, 33, seed=2)
    x[2, 17] = value
    pairs = [
        (lambda x, w: rms_norm(x, w, 1e-6), lambda x, w: F.rms_norm(x, w.shape, w, 1e-6), normal(33, seed=4)),
        (swiglu, lambda gate, up: F.silu(gate) * up, normal(5, 33, seed=3)),
    ]
    for function, reference, other in pairs:
        expected = gradients(reference, (x.float(), other.float()), grad)
        for actual, true in zip(gradients(function, (x, other), grad), expected, strict=True):
            assert torch.equal(actual.isnan(), true.isnan())
            assert torch.equal(actual.isfinite(), true.isfinite())


def mask_of(batch, queries, keys, seed):
    """Some may be attended to, each query one key at least."""
    allowed = torch.rand(batch, 1, queries, keys, generator=torch.Generator().manual_seed(seed)) < 0.5
    allowed[..., :32, 32:64] = False  # blocks without and with everything
    allowed[..., 32:64, :32] = True
    allowed[..., 0] = True
    return torch.zeros(allowed.shape, dtype=torch.bfloat16).masked_fill_(~allowed, -torch.inf)


@with_tiles
@few
@given(st.integers(1, 3), st.sampled_from([(1, 1), (4, 2), (6, 6)]), st.integers(8, 100), st.booleans(), seeds)
def test_attention(batch, heads, time, masked, seed):
    q, k, v = (normal(batch, time, n, 32, seed=seed + i).transpose(1, 2) for i, n in enumerate((*heads, heads[1])))
    mask = mask_of(batch, time, time, seed) if masked else None
    grad = normal(batch, heads[0], time, 32, seed=seed + 3)
    assert type(attention(q.requires_grad_(), k, v, mask).grad_fn).__name__ == "_TileAttentionBackward"

    def reference(q, k, v):
        return plain_attention(q, k, v, None if mask is None else mask.to(q.dtype))

    assert_near(lambda q, k, v: attention(q, k, v, mask), reference, (q, k, v), grad, bound=0.02)


@with_tiles
def test_attention_over_more_keys_than_queries_and_to_nothing():
    q, k, v = normal(2, 2, 40, 64, seed=0), normal(2, 2, 77, 64, seed=1), normal(2, 2, 77, 64, seed=2)
    mask = mask_of(1, 40, 77, seed=3)
    found, true = attention(q, k, v, mask), plain_attention(q.double(), k.double(), v.double(), mask.double())
    assert distance(found, true) < ROUNDING
    mask[..., 5, :] = -torch.inf
    assert not attention(q, k, v, mask)[:, :, 5].any()
    for gradient in gradients(lambda q, k, v: attention(q, k, v, mask), (q, k, v), normal(2, 2, 40, 64, seed=4)):
        assert gradient.isfinite().all()
    v[0, 0, 3, 3] = float("nan")
    assert attention(q, k, v, mask_of(1, 40, 77, seed=3)).isnan().any()


@with_tiles
@few
@given(st.integers(1, 70), st.integers(2, 600), st.integers(1, 70), st.sampled_from([0.5, 1.0]), st.booleans(), seeds)
def test_logprobs_of_logits_that_are_never_rounded(tokens, vocabulary, width, temperature, chunked, seed):
    hidden, weight = normal(1, tokens, width, seed=seed), normal(vocabulary, width, seed=seed + 1).float()
    targets = torch.randint(-1, vocabulary, (1, tokens), generator=torch.Generator().manual_seed(seed))
    grad = normal(1, tokens, seed=seed + 2).float()

    def all_logprobs(hidden, weight):
        return (hidden @ weight.T / temperature).log_softmax(-1)

    def reference(hidden, weight):
        return all_logprobs(hidden, weight).gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1) * (targets >= 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile_logprobs, "CHUNK_ELEMENTS", 1 if chunked else 1 << 24)
        found = gradients(lambda h, w: linear_logprobs(h, w, targets, temperature).logprobs, (hidden, weight), grad)
    true = gradients(reference, (hidden.double(), weight.double()), grad.double())
    assert [tensor.dtype for tensor in found] == [torch.float32, torch.bfloat16, torch.float32]
    torch.testing.assert_close(found[0].double(), true[0], rtol=1e-5, atol=1e-4)
    for actual, exact in zip(found[1:], true[1:], strict=True):
        assert (actual - exact).norm() <= 0.01 * exact.norm() + 1e-6
    every = all_logprobs(hidden.double(), weight.double())
    entropy = -(every.exp() * every).sum(-1) * (targets >= 0)
    torch.testing.assert_close(
        linear_logprobs(hidden, weight, targets, temperature).entropies.double(), entropy, rtol=1e-4, atol=1e-4
    )


@with_tiles
def test_logprobs_of_what_is_not_finite_are_noticed():
    hidden, weight, targets = normal(1, 40, 32, seed=0), normal(300, 32, seed=1), torch.full((1, 40), 7)
    for value in (float("nan"), float("inf")):
        hidden[0, 3, 5] = value
        found = linear_logprobs(hidden, weight, targets)
        assert (~found.logprobs.isfinite()).sum() == 1
        assert found.entropies[0, 3].isnan()
    huge = linear_logprobs(
        200 * torch.ones(1, 1, 1).bfloat16(), torch.tensor([[1.0], [1.0], [-1.0]]), targets[:, :1] * 0 + 2
    )
    assert float(huge.logprobs) == pytest.approx(-400 - 0.6931, rel=1e-6)
    assert float(huge.entropies) == pytest.approx(0.6931, abs=1e-3)


@compiled
def test_every_bit_is_the_same_with_one_thread_and_two():
    x, weight, grad = normal(1111, 64, seed=0), normal(64, seed=1).float(), normal(1111, 64, seed=2)
    heads = normal(3, 4, 100, 64, seed=3)
    angles = normal(1, 1, 100, 64, seed=4).float()
    targets = torch.randint(500, (1111,), generator=torch.Generator().manual_seed(5))
    head = normal(500, 64, seed=6)

    def everything():
        found = [
            *gradients(lambda x, w: rms_norm(x, w, 1e-6), (x, weight), grad),
            *gradients(swiglu, (x, grad), grad),
            *gradients(lambda x: rotate(x, angles, angles), (heads,), heads),
        ]
        if tiles.available():
            found += gradients(lambda q, k, v: attention(q, k, v, None), (heads, heads[:, :2], heads[:, 1:3]), heads)
            found += linear_logprobs(x[None], head, targets[None])
        return found

    torch.set_num_threads(1)
    one = everything()
    torch.set_num_threads(2)
    assert all(torch.equal(a, b) for a, b in zip(one, everything(), strict=True))


@compiled
def test_gradients_of_gradients():
    x, up = normal(4, 32, seed=0), normal(4, 32, seed=2)
    weight, angles = normal(32, seed=1).float(), normal(1, 1, 4, 32, seed=3).float()
    cases = [
        (lambda x, w: rms_norm(x, w, 1e-6), lambda x, w: F.rms_norm(x, w.shape, w, 1e-6), (x, weight)),
        (swiglu, lambda gate, up: F.silu(gate) * up, (x, up)),
        (lambda x: rotate(x[None, None], angles, angles).sin(), None, (x,)),
        (lambda q, k: attention(q[None, None], k[None, None], k[None, None], None), None, (x, up)),
    ]
    for function, reference, inputs in cases:
        found = []
        for each, dtype in ((function, None), (reference or function, torch.float64)):
            leaves = [tensor.to(dtype or tensor.dtype).detach().requires_grad_() for tensor in inputs]
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                first = torch.autograd.grad(each(*leaves).square().sum(), leaves, create_graph=True)
                found.append(torch.autograd.grad(sum(tensor.square().sum() for tensor in first), leaves))
        for actual, true in zip(*found, strict=True):
            assert distance(actual, true) < 0.05


def test_weights_of_another_dtype_than_the_states_keep_their_own_in_the_gradient(monkeypatch):
    hidden, weight = normal(1, 9, 4, seed=0), normal(30, 4, seed=1).float()
    for smallest in (1, 1 << 60):
        monkeypatch.setattr(kernels, "SMALLEST", smallest)
        found = gradients(
            lambda h, w: linear_logprobs(h, w, torch.arange(9)[None]).logprobs, (hidden, weight), torch.ones(1, 9)
        )
        assert [tensor.dtype for tensor in found] == [torch.float32, torch.bfloat16, torch.float32]


SHAPES = [(32, 32, 32), (544, 96, 64), (1056, 160, 96), (512, 64, 32), (1024, 992, 256)]


@with_tiles
@pytest.mark.parametrize(("tokens", "outputs", "inputs"), SHAPES)
@pytest.mark.parametrize("biased", [False, True])
def test_weights_of_a_linear_map_get_float32_sums_and_training_computes_what_evaluation_does(
    tokens, outputs, inputs, biased
):
    x = normal(tokens, inputs, seed=1)
    weight = normal(outputs, inputs, seed=2).float()
    bias = normal(outputs, seed=3).float() if biased else None
    grad = normal(tokens, outputs, seed=4)
    given = [tensor.detach().requires_grad_() for tensor in (x, weight, *([bias] if biased else []))]
    output = linear(given[0], given[1], given[2] if biased else None)
    with torch.no_grad():
        assert torch.equal(output, linear(x, weight, bias))
    found = torch.autograd.grad(output, given, grad)
    assert distance(found[1], grad.double().T @ x.double()) < 1e-6
    assert distance(found[0], grad.double() @ weight.double()) < ROUNDING
    if biased:
        assert distance(found[2], grad.double().sum(0)) < 1e-6


@with_tiles
@pytest.mark.parametrize("chunk", [1 << 24, 96 * 64])
def test_the_heads_weight_of_whole_blocks_gets_its_gradient_chunk_by_chunk(monkeypatch, chunk):
    monkeypatch.setattr(tile_logprobs, "CHUNK_ELEMENTS", chunk)
    hidden, weight = normal(1, 333, 64, seed=1), normal(96, 64, seed=2, scale=0.3).float()
    targets = torch.randint(-1, 96, (1, 333), generator=torch.Generator().manual_seed(3))
    grad = normal(1, 333, seed=4).float()

    def logprobs(hidden, weight):
        return linear_logprobs(hidden, weight, targets).logprobs

    def plainly(hidden, weight):
        found = (hidden @ weight.T).log_softmax(-1).gather(2, targets.clamp(min=0)[..., None])[..., 0]
        return found * (targets >= 0)

    found = gradients(logprobs, [hidden, weight], grad)
    true = gradients(plainly, [hidden.double(), weight.double()], grad)
    assert all(distance(one, exact) < ROUNDING for one, exact in zip(found, true, strict=True))
