"""Rollouts for reinforcement learning: prompts → sampled replies as padded rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.data.batches import Batch
from tutelage.data.completions import Completion, pad_completions
from tutelage.data.tokenizer import TextTokenizer
from tutelage.generation.engine import Engine, Reply, Request
from tutelage.generation.sampling import Sampling
from tutelage.generation.tool_loop import Dialogue, run_dialogues
from tutelage.tools.toolbox import Toolbox


@dataclass(frozen=True)
class Rollouts:
    """B sampled replies; `rows.targets_BT` selects the generated tokens, the end of turn included."""

    completions: list[Completion]
    replies: list[Reply]
    rows: Batch

    def finished(self, end_of_turn_id: int) -> list[bool]:
        """Whether each reply ended by itself, with the end of turn."""
        return [reply.finish_reason == "stop" and reply.ends_with(end_of_turn_id) for reply in self.replies]


def roll_out(engine: Engine, prompts: Sequence[list[int]], sampling: Sampling, seeds: Sequence[int]) -> Rollouts:
    """One reply to each prompt; the same seed gives the same random numbers, whatever the batch."""
    requests = [Request(prompt, sampling, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
    replies = engine.generate(requests)
    completions = [
        Completion([*prompt, *reply.ids], len(prompt)) for prompt, reply in zip(prompts, replies, strict=True)
    ]
    return Rollouts(completions, replies, pad_completions(completions, engine.pad_id))


def roll_out_with_tools(
    engine: Engine,
    tokenizer: TextTokenizer,
    toolbox: Toolbox,
    prompts: Sequence[list[int]],
    sampling: Sampling,
    seeds: Sequence[int],
    max_rounds: int,
) -> Rollouts:
    """As `roll_out`, with tools. A completion has the results in it, but only what the policy drew is selected.

    A reply's `ids` and `logprobs` are those drawn, its `text` is the answer after the calls.
    """
    requests = [Request(prompt, sampling, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
    dialogues = run_dialogues(engine, tokenizer, toolbox, requests, max_rounds)
    completions = [
        Completion(dialogue.ids, len(prompt), tuple(dialogue.written))
        for prompt, dialogue in zip(prompts, dialogues, strict=True)
    ]
    return Rollouts(completions, [_reply(d) for d in dialogues], pad_completions(completions, engine.pad_id))


def _reply(dialogue: Dialogue) -> Reply:
    drawn = [place for place, written in enumerate(dialogue.written) if written]
    finish_reason: Literal["stop", "length"] = "stop" if dialogue.ending == "stop" else "length"
    ids, logprobs = [dialogue.ids[place] for place in drawn], [dialogue.logprobs[place] for place in drawn]
    return Reply(ids, logprobs, finish_reason, dialogue.text)


def joined(parts: Sequence[Rollouts], order: Sequence[int], pad_id: int) -> Rollouts:
    """Replies of several rollouts, numbered through, in this order."""
    completions = [completion for part in parts for completion in part.completions]
    replies = [reply for part in parts for reply in part.replies]
    chosen = [completions[number] for number in order]
    return Rollouts(chosen, [replies[number] for number in order], pad_completions(chosen, pad_id))
