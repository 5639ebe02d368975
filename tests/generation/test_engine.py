from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from tiny import CONTEXT, model, tokenizer
from tutelage.data.completions import Completion, pad_completions
from tutelage.errors import DataError
from tutelage.generation.cache import SlotCache
from tutelage.generation.engine import Engine, Reply, Request
from tutelage.generation.forward import PackedForward, TorchForward
from tutelage.generation.request import StopStrings
from tutelage.generation.rollout import roll_out
from tutelage.generation.sampling import Sampling
from tutelage.model import kernels, tiles
from tutelage.model.decoding import MAX_ROWS, PackedDecoder, can_pack
from tutelage.model.transformer import CausalLM

STOP, PAD = 3, 0
PROMPTS = [[1, 20, 30], [1, 40, 50, 60, 70, 80, 90], [1, 25], [1, 31, 32, 33, 34], [1, 99, 98, 97]]


@pytest.fixture(scope="module")
def net() -> CausalLM:
    return model(seed=2).eval()


def engine(net: CausalLM, slots: int = 64, stops: tuple[int, ...] = (STOP,)) -> Engine:
    return Engine(net, stops, PAD, slots)


def requests(count: int, **sampling: float) -> list[Request]:
    """Prompts of many lengths, each several times, with lengths of reply that free slots at different times."""
    return [
        Request(PROMPTS[n % len(PROMPTS)], Sampling(max_tokens=3 + (7 * n) % 20, **sampling), seed=n)  # type: ignore[arg-type]
        for n in range(count)
    ]


def in_bfloat16(net: CausalLM) -> CausalLM:
    """The same weights, computing in bfloat16; skips where the kernel cannot."""
    if not tiles.available():
        pytest.skip("this processor has no tiles for bfloat16")
    lower = deepcopy(net)
    lower.compute_dtype = torch.bfloat16
    assert can_pack(lower)
    return lower


def same(one: list[Reply], two: list[Reply]) -> None:
    assert [reply.ids for reply in one] == [reply.ids for reply in two]
    assert [reply.finish_reason for reply in one] == [reply.finish_reason for reply in two]
    for a, b in zip(one, two, strict=True):
        assert_close(a.logprobs, b.logprobs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_greedy_decoding_equals_repeated_whole_forwards(model_type: str) -> None:
    net = model(seed=4, model_type=model_type).eval()
    replies = engine(net).generate([Request(prompt, Sampling(12, 0.0)) for prompt in PROMPTS])
    for prompt, reply in zip(PROMPTS, replies, strict=True):
        ids = list(prompt)
        for token, logprob in zip(reply.ids, reply.logprobs, strict=True):
            logits_V = net(torch.tensor([ids]))[0, -1]
            assert token == int(logits_V.argmax())
            assert logprob == pytest.approx(float(logits_V.log_softmax(-1)[token]), abs=1e-4)
            ids.append(token)
        assert len(reply.ids) == 12 or reply.ids[-1] == STOP


@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_a_prompt_longer_than_what_is_read_at_once_continues_as_a_whole_forward(model_type: str) -> None:
    net = model(seed=4, model_type=model_type, max_position_embeddings=1000).eval()
    prompts = [[1, *(20 + (7 * n) % 200 for n in range(count))] for count in (MAX_ROWS - 1, 2 * MAX_ROWS + 5, 3)]
    replies = engine(net).generate([Request(prompt, Sampling(4, 0.0)) for prompt in prompts])
    for prompt, reply in zip(prompts, replies, strict=True):
        with torch.no_grad():
            logprobs_TV = net(torch.tensor([[*prompt, *reply.ids]]))[0].log_softmax(-1)
        wanted = [float(logprobs_TV[len(prompt) - 1 + n, token]) for n, token in enumerate(reply.ids)]
        assert_close(reply.logprobs, wanted, rtol=1e-4, atol=1e-4)


def test_company_order_and_slots_never_change_a_reply(net: CausalLM) -> None:
    wanted = requests(13, temperature=1.1)
    alone = [engine(net).generate([request])[0] for request in wanted]
    assert len({tuple(reply.ids) for reply in alone}) > 8
    for slots in (1, 2, 3, 5, 8, 64):
        same(engine(net, slots).generate(wanted), alone)
    same(engine(net, 4).generate(wanted[::-1])[::-1], alone)
    same(engine(net, 4).generate(wanted[3:9]), alone[3:9])


def test_samples_of_one_prompt_equal_separate_runs_and_differ_among_themselves(net: CausalLM) -> None:
    wanted = [Request(PROMPTS[1], Sampling(10, 1.0), seed) for seed in range(6)]
    together = engine(net).generate(wanted)
    same(together, [engine(net).generate([request])[0] for request in wanted])
    assert len({tuple(reply.ids) for reply in together}) == 6


def test_a_slot_left_idle_at_the_end_of_the_context_does_not_overflow(net: CausalLM) -> None:
    # one long prompt fills the context soon; seven others go on, too busy for the batch to be shrunk
    wanted = [Request(list(range(5, 25 if n == 0 else 8)), Sampling(CONTEXT), n) for n in range(8)]
    replies = engine(net, 8, stops=()).generate(wanted)
    assert [len(reply.ids) for reply in replies] == [28] + [45] * 7
    same(replies, [engine(net, stops=()).generate([request])[0] for request in wanted])


@torch.no_grad()
@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_log_probs_of_decoding_equal_those_of_a_training_forward(net: CausalLM, temperature: float) -> None:
    rollouts = roll_out(engine(net, 3), PROMPTS, Sampling(15, temperature, top_k=50), list(range(5)))
    rows = rollouts.rows
    logprobs_BT, _ = net(
        rows.input_ids_BT,
        rows.position_ids_BT,
        rows.segment_ids_BT,
        targets_BT=rows.targets_BT,
        temperature=temperature,
    )
    for row, (prompt, reply) in enumerate(zip(PROMPTS, rollouts.replies, strict=True)):
        trained = logprobs_BT[row, len(prompt) - 1 : len(prompt) - 1 + len(reply.ids)]
        assert_close(trained, torch.tensor(reply.logprobs), rtol=0, atol=1e-4)
        assert rows.targets_BT[row][rows.targets_BT[row] >= 0].tolist() == reply.ids
        assert rollouts.finished(STOP)[row] == (reply.ids[-1] == STOP)


def test_a_stop_token_ends_the_reply_and_is_part_of_it(net: CausalLM) -> None:
    free = engine(net, stops=()).generate([Request(PROMPTS[0], Sampling(10, 0.0))])[0]
    assert free.finish_reason == "length"
    stop = free.ids[4]
    first = free.ids.index(stop)
    stopped = engine(net, stops=(stop,)).generate([Request(PROMPTS[0], Sampling(10, 0.0))])[0]
    assert stopped.ids == free.ids[: first + 1]
    assert stopped.finish_reason == "stop"


def test_a_stop_token_as_the_last_one_allowed_counts_as_stopped(net: CausalLM) -> None:
    free = engine(net, stops=()).generate([Request(PROMPTS[0], Sampling(1, 0.0))])[0]
    reply = engine(net, stops=(free.ids[0],)).generate([Request(PROMPTS[0], Sampling(1, 0.0))])[0]
    assert reply.finish_reason == "stop"


def test_the_context_limits_the_reply(net: CausalLM) -> None:
    prompt = list(range(4, 4 + CONTEXT - 3))
    reply = engine(net, stops=()).generate([Request(prompt, Sampling(100))])[0]
    assert (len(reply.ids), reply.finish_reason) == (3, "length")


def test_a_prompt_without_room_or_without_tokens_is_named(net: CausalLM) -> None:
    good = Request(PROMPTS[0], Sampling(3))
    with pytest.raises(DataError, match=f"prompt 1 has {CONTEXT} tokens; the model's context is {CONTEXT}"):
        engine(net).generate([good, Request([5] * CONTEXT, Sampling(3))])
    with pytest.raises(DataError, match="prompt 1 is empty"):
        engine(net).generate([good, Request([], Sampling(3))])
    assert engine(net).generate([]) == []


def test_tokens_and_replies_are_announced_as_they_come(net: CausalLM) -> None:
    tokens: dict[int, list[int]] = {}
    ended: dict[int, Reply] = {}
    wanted = requests(7, temperature=1.0)
    replies = engine(net, 3).generate(
        wanted, lambda index, token, logprob: tokens.setdefault(index, []).append(token), ended.__setitem__
    )
    assert [tokens[index] for index in range(7)] == [reply.ids for reply in replies]
    assert [ended[index] for index in range(7)] == replies
    assert list(engine(net).stream(wanted[2])) == replies[2].ids


def test_bfloat16_decodes_with_a_copy_and_leaves_the_model_alone() -> None:
    net = model(seed=2).eval()
    net.compute_dtype = torch.bfloat16
    first = engine(net, 4).generate(requests(6, temperature=1.0))
    again = engine(net, 4).generate(requests(6, temperature=1.0))
    assert [reply.ids for reply in first] == [reply.ids for reply in again]
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters())


def test_padding_of_completions_selects_exactly_the_reply() -> None:
    rows = pad_completions([Completion([1, 2, 3, 4], 2), Completion([5, 6], 1)], PAD)
    assert rows.targets_BT.tolist() == [[-100, 3, 4, -100], [6, -100, -100, -100]]
    assert rows.segment_ids_BT.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


SHAPES = {
    "qwen3": {},
    "qwen2": {"model_type": "qwen2", "qkv_bias": True},
    "llama, biases": {"model_type": "llama", "qkv_bias": True, "o_bias": True, "mlp_bias": True},
    "odd sizes": {"model_type": "llama", "vocab_size": 301, "intermediate_size": 27, "hidden_size": 19},
    "wide heads": {"model_type": "llama", "head_dim": 72, "num_attention_heads": 6, "num_key_value_heads": 2},
}
compiled = pytest.mark.skipif(not kernels.available(), reason=kernels.why_not() or "no kernels")


@compiled
@pytest.mark.parametrize("name", SHAPES)
def test_the_kernel_decodes_what_torch_decodes(name: str) -> None:
    net = model(seed=5, **SHAPES[name]).eval()
    for parameter_name, parameter in net.named_parameters():
        if parameter_name.endswith("bias") or "norm" in parameter_name:
            torch.nn.init.normal_(parameter, 1.0, 0.3, generator=torch.Generator().manual_seed(1))
    wanted = requests(17, temperature=1.0)
    by_kernel, by_torch = engine(net, 5), engine(net, 5)
    by_torch._forward = TorchForward(net, PAD)
    assert isinstance(by_kernel._forward, PackedForward)
    same(by_kernel.generate(wanted), by_torch.generate(wanted))


@torch.no_grad()
@compiled
@pytest.mark.parametrize("name", SHAPES)
def test_the_kernel_decodes_in_bfloat16_as_near_to_float32_as_a_forward_in_bfloat16(name: str) -> None:
    net = model(seed=5, **{**SHAPES[name], "head_dim": 96 if name == "wide heads" else 32}).eval()
    lower = in_bfloat16(net)
    decoder = engine(lower, 5)
    assert isinstance(decoder._forward, PackedForward)
    wanted = requests(17, temperature=1.0)
    replies = decoder.generate(wanted)
    completions = [
        Completion([*request.prompt_ids, *reply.ids], len(request.prompt_ids))
        for request, reply in zip(wanted, replies, strict=True)
    ]
    rows = pad_completions(completions, PAD)
    exact, forward = (
        net(rows.input_ids_BT, targets_BT=rows.targets_BT)[0][rows.targets_BT >= 0] for net in (net, lower)
    )
    decoded = torch.tensor([logprob for reply in replies for logprob in reply.logprobs])
    assert (decoded - exact).abs().max() <= 1.5 * (forward - exact).abs().max()
    assert 0 < (decoded - exact).abs().mean() <= (forward - exact).abs().mean()


@compiled
@pytest.mark.parametrize("lowered", [False, True], ids=["float32", "bfloat16"])
def test_with_the_kernel_company_changes_no_bit_of_a_log_probability(net: CausalLM, lowered: bool) -> None:
    net = in_bfloat16(model(seed=2, head_dim=32).eval()) if lowered else net
    wanted = requests(13, temperature=1.1)
    alone = [engine(net).generate([request])[0] for request in wanted]
    for slots in (1, 3, 64):
        assert engine(net, slots).generate(wanted) == alone


@compiled
@pytest.mark.parametrize("lowered", [False, True], ids=["float32", "bfloat16"])
def test_with_the_kernel_threads_change_no_bit_of_the_logits(
    net: CausalLM, lowered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = in_bfloat16(model(seed=2, head_dim=32).eval()) if lowered else net
    cache = SlotCache(net.config, 7, 8, net.compute_dtype)
    keys, rows = cache.keys, torch.arange(7)
    arguments = keys, keys.clone(), rows + 20, rows, torch.zeros(7, dtype=torch.long)
    one = PackedDecoder(net).forward(*arguments)
    monkeypatch.setattr(kernels, "threads_for", lambda elements: 2)
    assert torch.equal(PackedDecoder(net).forward(*arguments), one)


def test_the_engine_keeps_the_weights_it_was_made_with() -> None:
    net = model(seed=2).eval()
    if not can_pack(net):
        pytest.skip("torch decodes with the model itself")
    made_before = engine(net)
    wanted = requests(3, temperature=1.0)
    before = made_before.generate(wanted)
    with torch.no_grad():
        net.lm_head.weight.zero_()
    assert made_before.generate(wanted) == before


def test_models_that_the_kernel_does_not_take_are_decoded_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not can_pack(model(head_dim=12))
    monkeypatch.setenv("TUTELAGE_KERNELS", "0")
    net = model(seed=2).eval()
    assert isinstance(engine(net)._forward, TorchForward)
    test_company_order_and_slots_never_change_a_reply(net)


def test_stop_ids_of_a_request_are_its_own(net: CausalLM) -> None:
    free = engine(net, stops=()).generate([Request(PROMPTS[0], Sampling(10, 0.0))])[0]
    stops = (free.ids[6], free.ids[4])
    first = min(free.ids.index(stop) for stop in stops)
    with_stop, without = engine(net, stops=()).generate(
        [Request(PROMPTS[0], Sampling(10, 0.0), stop_ids=stops), Request(PROMPTS[0], Sampling(10, 0.0))]
    )
    assert (with_stop.ids, with_stop.finish_reason) == (free.ids[: first + 1], "stop")
    assert without == free


def test_a_stop_string_ends_a_reply_wherever_tokens_are_cut() -> None:
    text = "The capital of France is Paris. Paris is a city in France."
    ids = tokenizer().encode(text)
    for start in range(len(text) - 3):
        for stop in (text[start : start + 3], text[start : start + 8]):
            watch = StopStrings(tokenizer(), ("§§§", stop))
            ended = next((n for n, token in enumerate(ids) if watch.push(token)), None)
            assert ended is not None
            assert watch.text == text[: text.index(stop)]
            assert stop in tokenizer().decode(ids[: ended + 1])
            assert stop not in tokenizer().decode(ids[:ended])


def test_stop_strings_leave_other_rows_and_the_draws_alone(net: CausalLM) -> None:
    with_text = Engine(net, (), PAD, 4, tokenizer())
    plain = [Request(PROMPTS[n], Sampling(20, 1.0), n) for n in range(5)]
    free = with_text.generate(plain)
    assert all(reply.text is None for reply in free)
    texts = [tokenizer().decode(reply.ids) for reply in free]
    # of a random model's bytes many are no character; what those stand for is not looked for
    stops = [(next(letter for letter in text[4:] if letter.isascii()), "never written") for text in texts]
    stopped = with_text.generate([replace(r, stop_strings=s) for r, s in zip(plain, stops, strict=True)])
    for one, whole, text, stop in zip(stopped, free, texts, stops, strict=True):
        assert one.ids == whole.ids[: len(one.ids)]
        assert one.text == text[: text.index(stop[0])]
        assert one.finish_reason == "stop"


def test_stop_strings_and_penalties_that_cannot_be_are_named(net: CausalLM) -> None:
    with pytest.raises(DataError, match="prompt 0 has stop strings, but its tokens have no text"):
        engine(net).generate([Request(PROMPTS[0], Sampling(3), stop_strings=("x",))])
    with pytest.raises(DataError, match="prompt q has an empty stop string"):
        Engine(net, (), PAD, 4, tokenizer()).generate([Request(PROMPTS[0], Sampling(3), name="q", stop_strings=("",))])
    with pytest.raises(DataError, match="repetition_penalty is 0"):
        engine(net).generate([Request(PROMPTS[0], Sampling(3, repetition_penalty=0))])


def test_a_repetition_penalty_of_one_row_is_not_that_of_another(net: CausalLM) -> None:
    plain = [Request(PROMPTS[n % 5], Sampling(20, 0.0), n) for n in range(6)]
    free = engine(net, 4, stops=()).generate(plain)
    mixed = [
        replace(r, sampling=replace(r.sampling, repetition_penalty=50.0)) if n % 2 else r for n, r in enumerate(plain)
    ]
    replies = engine(net, 4, stops=()).generate(mixed)
    for n, (reply, whole) in enumerate(zip(replies, free, strict=True)):
        if n % 2:  # with so strong a penalty nothing comes twice
            assert len(set(reply.ids)) == len(reply.ids)
            assert not set(reply.ids) & set(mixed[n].prompt_ids)
        else:
            same([reply], [whole])
