"""Critique and revision: replies, criticised by principles and written anew (Bai et al., arXiv 2212.08073, section 3).

Up to `num_revisions` times a principle is drawn for every reply. Its critic says what is wrong; if anything is, the
writer writes the reply anew, and what comes last is what a model can be fine-tuned on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tutelage.constitutions.principles import Example, Principle, check_rules, from_rows
from tutelage.errors import DataError
from tutelage.generation.remote import Answer, Ask
from tutelage.generation.sampling import Sampling
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.stages.configs import ReviseConfig
from tutelage.stages.constitution import FILE
from tutelage.stages.constitutional.chains import (
    Chain,
    accepted,
    critique_request,
    drawn,
    findings,
    revision_request,
)
from tutelage.stages.constitutional.writers import Writer, open_writer
from tutelage.stages.models import run_dtype
from tutelage.stages.sample import request_seed


@dataclass
class Turn:
    """One reply under one principle: what its critic says, and what is to be written because of it."""

    chain: Chain
    name: str
    principle: Principle
    seed: int
    critique: str = ""
    objects: bool = False


def run(config: ReviseConfig, inputs: Inputs, run: StageRun) -> None:
    """Revise every reply, and write the chains and the conversations that they end in."""
    principles = from_rows(list(read_jsonl(inputs["critiques"].path / FILE)))
    chains = [Chain.of(row) for row in read_jsonl(inputs["completions"].path / "completions.jsonl")]
    _check(config, principles, chains, inputs)
    if config.num_revisions:
        dtype = run_dtype(config.precision, run)
        reviser = Reviser(config, inputs, principles, dtype, run)
        _measure(chains, principles, run, 0)
        for number in range(1, config.num_revisions + 1):
            reviser.revise(chains, number)
            _measure(chains, principles, run, number)
        run.notes += reviser.notes()
    _publish(chains, principles, inputs, run)


def _check(config: ReviseConfig, principles: Mapping[str, Principle], chains: Sequence[Chain], inputs: Inputs) -> None:
    if not chains:
        raise DataError(f"{inputs['completions'].name} has no replies", hint="look at the stage that draws them")
    if not principles:
        raise DataError(
            f"{inputs['critiques'].name}: no principle has a critique and a revision",
            hint="questions alone compare replies (the stage judge); to revise them, add `critique` and `revision`",
        )
    if config.critic == "rules":
        check_rules(principles, "critic")


class Reviser:
    """Draws principles, asks the critic and the writer, and counts what came of it."""

    def __init__(
        self,
        config: ReviseConfig,
        inputs: Inputs,
        principles: Mapping[str, Principle],
        dtype: torch.dtype,
        run: StageRun,
    ) -> None:
        self.config, self.principles, self.run = config, principles, run
        self.writer = open_writer(inputs.get("model"), config.engine, dtype, config.max_slots)
        self.critic = self.writer
        if "critic_model" in inputs:
            self.critic = open_writer(inputs["critic_model"], None, dtype, config.max_slots)
        self.show = config.show or ("revisions" if config.critic == "rules" else "dialogue")
        self.given_up = self.without_room = 0

    def revise(self, chains: Sequence[Chain], number: int) -> None:
        """One principle for each chain; `number` is this stage's, a chain counts on from where it was."""
        turns = [self._turn(chain) for chain in chains]
        if self.config.critic == "rules":
            self._judge(turns)
        else:
            self._criticise(turns, number)
        self._write([turn for turn in turns if turn.objects], number)
        objected = sum(turn.objects for turn in turns)
        self.run.metrics[f"revision_{number}/objected/share"] = objected / len(turns)
        taken = sum(bool(turn.chain.links[-1]["accepted"]) for turn in turns)
        self.run.metrics[f"revision_{number}/accepted/share"] = taken / max(objected, 1)

    def _turn(self, chain: Chain) -> Turn:
        number = len(chain.links) + 1
        seed = request_seed(self.run.seed, chain.id, number)
        name = drawn(self.principles, seed)
        critic = "rules" if self.config.critic == "rules" else self.critic.name
        link = {"number": number, "principle": name, "critic": critic, "critique": "", "revision": None,
                "accepted": False, "attempts": 0, "seed": seed}  # fmt: skip
        chain.links.append(link)
        return Turn(chain, name, self.principles[name], seed)

    def _judge(self, turns: Sequence[Turn]) -> None:
        """The rule of the principle is the critic."""
        for turn in turns:
            assert turn.principle.rule is not None, "checked before anything is drawn"
            turn.critique = findings({turn.name: turn.principle}, turn.chain.now)[turn.principle.rule].objection
            turn.objects = bool(turn.critique)
            turn.chain.links[-1]["critique"] = turn.critique

    def _criticise(self, turns: Sequence[Turn], number: int) -> None:
        """A model is the critic: it always has something to say, and whoever writes may leave the reply as it is."""
        asks = self._asks(turns, self.critic, critique_request)
        answers = self.critic.write([ask for _, ask in asks], self.run, f"critique {number}")
        for (turn, _), [answer] in zip(asks, answers, strict=True):
            turn.critique, turn.objects = answer.text, bool(answer.text)
            turn.chain.links[-1] |= {"critique": answer.text, "critic_fingerprint": self.critic.fingerprint}

    def _write(self, turns: Sequence[Turn], number: int) -> None:
        """Revisions of what was objected to, one after the other until one is taken."""

        def request(chain: Chain, principle: Principle, examples: Sequence[Example]) -> list[dict[str, str]]:
            return revision_request(chain, principle, examples, chain.links[-1]["critique"], self.show)

        attempts = self.config.attempts if self.config.critic == "rules" else 1
        waiting = self._asks(turns, self.writer, request)
        for attempt in range(1, attempts + 1):
            if not waiting:
                return
            asks = [replace(ask, seed=request_seed(turn.seed, attempt)) for turn, ask in waiting]
            answers = self.writer.write(asks, self.run, f"revision {number}, attempt {attempt}")
            waiting = [
                (turn, ask)
                for (turn, ask), [answer] in zip(waiting, answers, strict=True)
                if not self._taken(turn, answer, attempt)
            ]
        self.given_up += len(waiting)

    def _taken(self, turn: Turn, answer: Answer, attempt: int) -> bool:
        """Take a revision if it will do; if not, the reply stays, and the revision is kept for the record."""
        taken = self._will_do(turn, answer)
        turn.chain.links[-1] |= {
            "revision": answer.text,
            "accepted": taken,
            "attempts": attempt,
            "model": self.writer.name,
            "model_fingerprint": self.writer.fingerprint,
        }
        if taken:
            turn.chain.reply, turn.chain.finish_reason = answer.text, answer.finish_reason
            turn.chain.num_tokens = answer.num_tokens
        return taken

    def _will_do(self, turn: Turn, answer: Answer) -> bool:
        if answer.finish_reason != "stop" or not answer.text:
            return False
        if self.config.critic == "model":
            return True
        assert turn.principle.rule is not None, "checked before anything is drawn"
        before = findings(self.principles, turn.chain.now)
        return accepted(
            turn.principle.rule, before, findings(self.principles, turn.chain.exchange(answer.text, finished=True))
        )

    def _asks(
        self,
        turns: Sequence[Turn],
        writer: Writer,
        request: Callable[[Chain, Principle, Sequence[Example]], list[dict[str, str]]],
    ) -> list[tuple[Turn, Ask]]:
        """What is asked for each turn, with as many examples as there is room for; not asked where there is none."""
        config, asks = self.config, []
        sampling = Sampling(config.max_tokens, config.temperature, top_p=config.top_p, min_p=config.min_p)
        for turn in turns:
            examples = turn.principle.examples[: config.num_examples]
            shown = (request(turn.chain, turn.principle, examples[:n]) for n in range(len(examples), -1, -1))
            messages = next((found for found in shown if writer.fits(found, config.max_tokens)), None)
            if messages is None:
                self.without_room += 1
            else:
                asks.append((turn, Ask(messages, sampling, request_seed(turn.seed, 0), name=turn.chain.id)))
        return asks

    def notes(self) -> list[str]:
        """What could not be revised, and why."""
        notes = []
        if self.given_up:
            why = "the rule objected to all" if self.config.critic == "rules" else "it was empty or cut off"
            notes.append(
                f"{self.given_up} times no revision was taken ({why}): raise attempts or max_tokens, or give the "
                "principle better examples"
            )
        if self.without_room:
            notes.append(
                f"{self.without_room} requests did not fit into the context and were not made: lower max_tokens"
            )
        return notes


def _measure(chains: Sequence[Chain], principles: Mapping[str, Principle], run: StageRun, number: int) -> None:
    """The share of replies to which the rules object after so many revisions: all rules, and each of them."""
    found = [findings(principles, chain.now) for chain in chains]
    if found[0]:
        objected = [any(finding.objection for finding in each.values()) for each in found]
        run.metrics[f"objections_{number}/share"] = sum(objected) / len(objected)
        for rule in found[0]:
            run.metrics[f"objections_{number}/{rule}/share"] = sum(bool(f[rule].objection) for f in found) / len(found)


def _publish(chains: Sequence[Chain], principles: Mapping[str, Principle], inputs: Inputs, run: StageRun) -> None:
    """The chains, and the conversations they end in: without replies cut off or still objected to."""
    write_jsonl(run.directory / "completions" / "completions.jsonl", (chain.as_row() for chain in chains))
    kept = [chain for chain in chains if chain.finish_reason == "stop" and chain.reply.strip()]
    cut = len(chains) - len(kept)
    kept = [chain for chain in kept if not _objected(chain, principles)]
    run.metrics |= {
        "num_replies": len(chains),
        "revised/share": sum(any(link["accepted"] for link in chain.links) for chain in chains) / len(chains),
        "num_conversations": write_jsonl(
            run.directory / "conversations" / "conversations.jsonl", _conversations(kept, inputs["critiques"].name)
        ),
    }
    if not kept:
        raise DataError(
            f"none of {len(chains)} replies is left: {cut} were cut off or empty, to the others a rule still objects",
            hint="raise attempts or max_tokens",
        )
    if cut:
        run.notes.append(f"{cut} replies were cut off or empty and are in no conversation")
    if len(chains) - cut - len(kept):
        run.notes.append(
            f"{len(chains) - cut - len(kept)} replies are in no conversation: a principle drawn for them still objects"
        )


def _objected(chain: Chain, principles: Mapping[str, Principle]) -> bool:
    """Whether a rule objects, at the end, under whose principle the reply was criticised."""
    if any(link["critic"] != "rules" for link in chain.links):
        return False
    names = {link["principle"] for link in chain.links}
    own = {name: principle for name, principle in principles.items() if name in names}
    return any(finding.objection for finding in findings(own, chain.now).values())


def _conversations(chains: Sequence[Chain], source: str) -> Iterator[dict[str, Any]]:
    for chain in chains:
        revised = [link["principle"] for link in chain.links if link["accepted"]]
        yield {
            "id": chain.id,
            "messages": [*chain.messages, {"role": "assistant", "content": chain.reply}],
            "source": source,
            "tags": ["revised", *dict.fromkeys(revised)] if revised else ["as it was"],
        }
