from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tiny import CONTEXT, model
from tutelage.data.completions import Completion, pad_completions
from tutelage.errors import DataError
from tutelage.generation.engine import Engine, Reply, Request
from tutelage.generation.rollout import roll_out
from tutelage.generation.sampling import Sampling
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
