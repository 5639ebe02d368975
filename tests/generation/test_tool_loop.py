from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from tiny import CONTEXT, model, tokenizer
from tutelage.data.completions import prompt_ids
from tutelage.data.template import render
from tutelage.generation.engine import Engine, Reply, Request
from tutelage.generation.rollout import roll_out_with_tools
from tutelage.generation.sampling import Sampling
from tutelage.generation.tool_loop import Dialogue, round_seed, run_dialogues
from tutelage.model.transformer import CausalLM
from tutelage.tools import toolbox
from tutelage.tools.calls import BadCall, ToolCall
from tutelage.tools.toolbox import Toolbox

TOKENIZER = tokenizer()
END, CALL = TOKENIZER.end_of_turn_id, TOKENIZER.begin_call_id or -1
BOX = Toolbox([toolbox.calculator()])


class Scripted(Engine):
    """An engine whose model is a function from the text of a prompt to (what it says, what it writes as calls)."""

    def __init__(self, speak: Callable[[str], tuple[str, list[str]]], context: int = 10_000) -> None:
        self._speak, self._context = speak, context
        self.asked: list[list[Request]] = []

    @property
    def context(self) -> int:
        return self._context

    def generate(self, requests: Sequence[Request], *args: Any) -> list[Reply]:
        self.asked.append(list(requests))
        return [self._reply(request) for request in requests]

    def _reply(self, request: Request) -> Reply:
        said, calls = self._speak(TOKENIZER.decode(request.prompt_ids, skip_special_tokens=False))
        ids = TOKENIZER.encode(said) + [token for call in calls for token in (CALL, *TOKENIZER.encode(call))] + [END]
        cut = ids[: request.sampling.max_tokens]
        return Reply(cut, [-0.5] * len(cut), "stop" if cut == ids else "length")


def solver(prompt: str) -> tuple[str, list[str]]:
    """Works out `sum: a b …`, one addition a round; both additions of `two: a b c d` at once."""
    kind, given = re.findall(r"<\|user\|>(\w+): ([\d ]+)", prompt)[-1]
    numbers, results = [int(number) for number in given.split()], re.findall(r"<\|tool\|>([^<{]+)<\|end\|>", prompt)
    add = [ToolCall("calculator", {"expression": f"{a} + {b}"}).text for a, b in pairwise(numbers)]
    if kind == "two":
        return (" and ".join(results), []) if results else ("Both.", [add[0], add[2]])
    if len(results) + 1 == len(numbers):
        return (results[-1] if results else str(numbers[0])), []
    before = results[-1] if results else numbers[0]
    return "", [ToolCall("calculator", {"expression": f"{before} + {numbers[len(results) + 1]}"}).text]


def asked(text: str, max_tokens: int = 200, seed: int = 0) -> Request:
    messages = [{"role": "user", "content": text}]
    return Request(prompt_ids(TOKENIZER, messages, BOX.definitions), Sampling(max_tokens), seed, text)


def talk(
    texts: Sequence[str], speak: Callable[[str], tuple[str, list[str]]] = solver, **settings: Any
) -> list[Dialogue]:
    return run_dialogues(Scripted(speak), TOKENIZER, BOX, [asked(text) for text in texts], **settings)


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=5), min_size=1, max_size=5))
def test_several_steps_and_the_company_changes_no_dialogue(problems: list[list[int]]) -> None:
    texts = [f"sum: {' '.join(map(str, numbers))}" for numbers in problems]
    together = talk(texts)
    assert together == [talk([text])[0] for text in texts]
    for numbers, dialogue in zip(problems, together, strict=True):
        assert (dialogue.text, dialogue.ending) == (str(sum(numbers)), "stop")
        assert [len(step.calls) for step in dialogue.steps] == [1] * (len(numbers) - 1) + [0]


def test_parallel_calls_are_answered_in_their_order() -> None:
    (dialogue,) = talk(["two: 1 2 3 4"])
    assert [result.text for result in dialogue.steps[0].results] == ["3", "7"]
    assert (dialogue.text, dialogue.steps[0].text) == ("3 and 7", "Both.")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_the_tokens_are_those_of_the_conversation_rendered_and_the_written_ones_those_learnt(
    numbers: list[int],
) -> None:
    text = f"sum: {' '.join(map(str, numbers))}"
    (dialogue,) = talk([text])
    rendered = render(TOKENIZER, [{"role": "user", "content": text}, *dialogue.messages()], BOX.definitions)
    assert dialogue.ids == rendered.ids
    assert dialogue.written == rendered.loss_mask
    assert [logprob != 0 for logprob in dialogue.logprobs] == dialogue.written


def test_a_malformed_call_is_shown_with_the_reason_and_mended_calls_are_run() -> None:
    def speak(prompt: str) -> tuple[str, list[str]]:
        if "<|tool|>4" in prompt:
            return "4", []
        if "error: " in prompt:
            return "", ["{'name': 'Calculator', 'arguments': {'expression': '2 + 2'}"]
        return "Hm.", ["2 + 2", '{"name": "calc", "arguments": {}}']

    (dialogue,) = talk(["sum: 2 2"], speak)
    first, second, third = dialogue.steps
    assert all(isinstance(call, BadCall) for call in first.calls)
    assert first.results[0].text.startswith("error: the call is not JSON")
    assert first.results[1].text == "error: there is no tool 'calc'; the tools are: calculator"
    assert isinstance(second.calls[0], ToolCall)
    assert len(second.calls[0].repairs) == 2
    assert (third.text, dialogue.ending) == ("4", "stop")
    assert dialogue.messages()[0]["content"] == 'Hm.\n2 + 2\n{"name": "calc", "arguments": {}}'
    assert render(TOKENIZER, [{"role": "user", "content": "x"}, *dialogue.messages()]).num_trained


def test_rounds_context_and_length_are_bounds() -> None:
    def again(prompt: str) -> tuple[str, list[str]]:
        return "", [ToolCall("calculator", {"expression": "1 + 1"}).text]

    for rounds in (0, 1, 3):
        engine = Scripted(again)
        (dialogue,) = run_dialogues(engine, TOKENIZER, BOX, [asked("sum: 1 1")], rounds)
        assert (dialogue.ending, len(engine.asked), len(dialogue.steps)) == ("rounds", rounds + 1, rounds + 1)
        assert [len(step.results) for step in dialogue.steps] == [1] * rounds + [0]
    request = asked("sum: 1 1")
    reply = len(Scripted(again).generate([request])[0].ids)
    (full,) = run_dialogues(Scripted(again, len(request.prompt_ids) + reply + 2), TOKENIZER, BOX, [request])
    assert (full.ending, len(full.steps[0].results)) == ("context", 1)
    (cut,) = run_dialogues(Scripted(again), TOKENIZER, BOX, [asked("sum: 1 1", max_tokens=10)])
    assert (cut.ending, cut.steps[0].results) == ("length", ())


def test_every_turn_has_random_numbers_of_its_own() -> None:
    engine = Scripted(solver)
    ended: list[int] = []
    run_dialogues(engine, TOKENIZER, BOX, [asked("sum: 1 2 3", seed=5), asked("sum: 1", seed=6)],
                  on_end=lambda number, _: ended.append(number))  # fmt: skip
    seeds = [request.seed for requests in engine.asked for request in requests]
    assert seeds == [5, 6, round_seed(5, 1), round_seed(5, 2)]
    assert len(set(seeds)) == 4
    assert ended == [1, 0]


def test_without_calls_a_dialogue_is_the_reply_of_the_engine() -> None:
    net = model(seed=2).eval()
    engine = Engine(net, TOKENIZER.stop_ids, TOKENIZER.pad_id)
    requests = [Request([1, 20 + number], Sampling(8, 1.3), number) for number in range(20)]
    replies = [reply for reply in engine.generate(requests) if CALL not in reply.ids]
    dialogues = [dialogue for dialogue in run_dialogues(engine, TOKENIZER, BOX, requests) if not dialogue.calls]
    assert len(replies) > 10
    for dialogue, reply in zip(dialogues, replies, strict=True):
        assert dialogue.ids[2:] == reply.ids
        assert dialogue.logprobs[2:] == reply.logprobs
        assert dialogue.ending == reply.finish_reason
        assert len(dialogue.ids) <= CONTEXT


def talkative(seed: int = 2) -> CausalLM:
    """Random weights that often begin calls and end turns."""
    net = model(seed=seed, max_position_embeddings=600).eval()
    with torch.no_grad():
        net.lm_head.weight[[CALL, END]] *= 5
    return net


@torch.no_grad()
def test_rollouts_select_what_the_policy_drew_and_a_forward_finds_the_same_log_probs() -> None:
    net = talkative()
    engine = Engine(net, TOKENIZER.stop_ids, TOKENIZER.pad_id)
    prompts = [list(asked(f"{number}?").prompt_ids) for number in range(24)]
    rollouts = roll_out_with_tools(engine, TOKENIZER, BOX, prompts, Sampling(20, 1.0), range(24), 3)
    rows = rollouts.rows
    logprobs_BT, _ = net(rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT, targets_BT=rows.targets_BT)
    answered = 0
    for row, (completion, reply) in enumerate(zip(rollouts.completions, rollouts.replies, strict=True)):
        mask = rows.targets_BT[row] >= 0
        assert rows.targets_BT[row][mask].tolist() == reply.ids
        assert_close(logprobs_BT[row][mask].tolist(), reply.logprobs, rtol=1e-4, atol=1e-4)
        pairs = zip(completion.ids[completion.num_prompt :], completion.loss_mask[completion.num_prompt :], strict=True)
        given = TOKENIZER.decode([token for token, own in pairs if not own], skip_special_tokens=False)
        assert given.count("<|assistant|>") == reply.ids.count(END) - reply.ends_with(END)
        answered += "<|tool|>error: " in given
    assert answered >= 2
