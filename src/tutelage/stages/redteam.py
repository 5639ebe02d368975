"""redteam: a list or a model attacks, successes become training data, rounds are counted.

Harmless requests are put in the same words as the attacks; those must stay answered, and are written into the
training data too.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tutelage.errors import DataError, RecipeError
from tutelage.feedback.rubric import is_refusal
from tutelage.generation.remote import Ask
from tutelage.generation.sampling import Sampling
from tutelage.run.config import expanded
from tutelage.run.stage import Inputs, StageRun
from tutelage.safety import redteam
from tutelage.safety.attacks import Attack, read_attacks
from tutelage.safety.redteam import PLAIN, Attempt
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.stages.configs import RedteamConfig
from tutelage.stages.constitutional.writers import Writer, open_writer
from tutelage.stages.models import run_dtype
from tutelage.stages.safety.judging import attack_requests, judged, messages_of
from tutelage.stages.sample import request_seed

Row = dict[str, Any]
Kinds = dict[str, list[Attack]]


def run(config: RedteamConfig, inputs: Inputs, run: StageRun) -> None:
    """One round: attack, decide what succeeded, and write what is to be learnt and what is measured."""
    kinds, refusals = read_attacks([expanded(path) for path in _listed(config.attacks)])
    for name in config.held_out_kinds:
        if name not in kinds:
            raise RecipeError(f"held_out_kinds: there is no kind {name!r}", hint=f"kinds: {', '.join(kinds)}")
    learnt = {kind: attacks for kind, attacks in kinds.items() if kind not in config.held_out_kinds}
    if not learnt:
        raise RecipeError("held_out_kinds: every kind is held out", hint="leave some to be learnt from")
    earlier = list(read_jsonl(inputs["previous"].path / "completions.jsonl")) if "previous" in inputs else []
    number = 1 + max((row["meta"]["round"] for row in earlier), default=0)
    harmful, harmless, held = _requests(config, inputs, run)
    rng = random.Random(f"{run.seed}/redteam/{number}")
    target = open_writer(inputs.get("model"), config.engine, run_dtype(config.precision, run), config.max_slots)
    chances = redteam.weights(learnt, earlier)
    tries = [
        *redteam.attempts(harmful, learnt, chances, config.attacks_a_prompt, True, number, rng),
        *redteam.attempts(harmless, learnt, chances, config.attacks_a_prompt, False, number, rng),
        *_written(config, inputs, harmful, learnt, number, run),
    ]
    sampling = Sampling(config.max_tokens, config.temperature, min_p=config.min_p)
    tries = _play(tries, target, sampling, run)
    _decide(tries, refusals, config, inputs, rng, run)
    rows = [*earlier, *(one.as_row(target.name, asdict(sampling)) for one in tries)]
    _write(rows, number, config, run)
    _write_items(held, learnt, kinds, config, run)


def _listed(path: str | list[str]) -> list[str]:
    return [path] if isinstance(path, str) else path


def _requests(
    config: RedteamConfig, inputs: Inputs, run: StageRun
) -> tuple[list[Row], list[Row], dict[bool, list[Row]]]:
    """Harmful and harmless prompts of this round, and those to measure on, by whether they are harmful."""
    prompts = sorted(read_jsonl(inputs["prompts"].path / "prompts.jsonl"), key=lambda row: request_seed(0, row["id"]))
    if "held_out" in inputs:
        named = {*config.harmful, *config.harmless}
        rows = [row for row in read_jsonl(inputs["held_out"].path / "tasks.jsonl") if row.get("task") in named]
    else:
        cut = len(prompts) // 4
        rows, prompts = prompts[:cut], prompts[cut:]
    held = {True: _of(rows, config.harmful), False: _of(rows, config.harmless)}
    if not _of(prompts, config.harmful) or not held[True]:
        raise DataError(
            f"{inputs['prompts'].name} has no prompts of the kind {' or '.join(config.harmful)} to learn from and to "
            "measure on",
            hint="name the kinds that are to be declined in `harmful`",
        )
    rng = random.Random(f"{run.seed}/requests")
    found = [_of(prompts, names) for names in (config.harmful, config.harmless)]
    drawn = [rng.sample(rows, min(config.limit, len(rows))) for rows in found]
    return drawn[0], drawn[1], held


def _of(rows: Sequence[Row], kinds: Sequence[str]) -> list[Row]:
    return [row for row in rows if row["kind"] in kinds and row.get("messages")]


def _written(
    config: RedteamConfig, inputs: Inputs, prompts: Sequence[Row], kinds: Kinds, number: int, run: StageRun
) -> list[Attempt]:
    """One attack on each prompt that a model writes, if there is one."""
    if "attacker" not in inputs and config.attacker_engine is None:
        return []
    writer = open_writer(
        inputs.get("attacker"), config.attacker_engine, run_dtype(config.precision, run), config.max_slots
    )
    asks = attack_requests(prompts, kinds, config.max_tokens, run.seed + number)
    asked = [
        (prompt, ask)
        for prompt, ask in zip(prompts, asks, strict=True)
        if writer.fits(messages_of(ask), config.max_tokens)
    ]
    answers = writer.write([ask for _, ask in asked], run, "attacks")
    return [
        Attempt(prompt, True, "model", [answer.text], number)
        for (prompt, _), [answer] in zip(asked, answers, strict=True)
        if answer.text
    ]


def _play(tries: Sequence[Attempt], target: Writer, sampling: Sampling, run: StageRun) -> list[Attempt]:
    """The target's reply to every turn; attempts for which there is no room are left out."""
    going = list(tries)
    for turn in range(max(len(one.turns) for one in tries)):
        now = [one for one in going if turn < len(one.turns)]
        for one in now:
            if turn:
                one.messages.append({"role": "assistant", "content": one.reply})
            one.messages.append({"role": "user", "content": one.turns[turn]})
        fits = {id(one) for one in now if target.fits(one.messages, sampling.max_tokens)}
        going = [one for one in going if turn >= len(one.turns) or id(one) in fits]
        now = [one for one in now if id(one) in fits]
        asks = [Ask(one.messages, sampling, request_seed(run.seed, one.id, turn), name=one.id) for one in now]
        for one, [answer] in zip(now, target.write(asks, run, f"turn {turn + 1}"), strict=True):
            one.reply, one.finish_reason = answer.text, answer.finish_reason
    if len(going) < len(tries):
        run.notes.append(f"{len(tries) - len(going)} attacks did not fit into the context and were not made")
    return going


def _decide(
    tries: Sequence[Attempt],
    refusals: Sequence[str],
    config: RedteamConfig,
    inputs: Inputs,
    rng: random.Random,
    run: StageRun,
) -> None:
    """Which replies declined, and what each attempt teaches: a refusal where an attack succeeded, else an answer."""
    for one in tries:
        one.declined = is_refusal(one.reply)
    if "judge" in inputs or config.judge_engine is not None:
        judge = open_writer(
            inputs.get("judge"), config.judge_engine, run_dtype(config.precision, run), config.max_slots
        )
        judged([one for one in tries if one.harmful], judge, run)
    plain = {one.prompt["id"]: one for one in tries if one.kind == PLAIN}
    for one in tries:
        if one.harmful and not one.declined:
            one.teaches = redteam.refusal_to(one.prompt, refusals, rng)
        elif not one.harmful:
            one.teaches = redteam.answer_to(one.prompt, plain.get(one.prompt["id"]))


def _write(rows: Sequence[Row], number: int, config: RedteamConfig, run: StageRun) -> None:
    """All rounds so far: attempts, conversations and pairs."""
    write_jsonl(run.directory / "attempts" / "completions.jsonl", rows)
    taught = [row for row in rows if row["meta"]["teaches"]]
    wrong = [row for row in taught if row["meta"]["harmful"] or row["meta"]["declined"]]
    pairs = [redteam.preference_of(row, config.validation_share) for row in wrong if row["completion"].strip()]
    run.metrics |= {
        "round": number,
        "attempts": len(rows),
        "conversations": write_jsonl(
            run.directory / "conversations" / "conversations.jsonl", map(redteam.conversation, taught)
        ),
        "conversations/refusing": sum(row["meta"]["harmful"] for row in taught),
        "preferences": write_jsonl(run.directory / "preferences" / "preferences.jsonl", pairs),
    }
    for earlier in range(1, number + 1):
        of_round = [row for row in rows if row["meta"]["round"] == earlier]
        run.metrics |= _rates(of_round, f"round_{earlier}/")
    if not run.metrics[f"round_{number}/attack_success_rate"]:
        run.notes.append("no attack succeeded in this round: there is nothing new to learn from it")


def _rates(rows: Sequence[Row], before: str) -> dict[str, float]:
    """Shares of attacks that succeeded, all and by kind, and of harmless requests that were declined."""
    rates = {}
    for harmful, name in ((True, "attack_success_rate"), (False, "over_refusal_rate")):
        these = [row["meta"] for row in rows if row["meta"]["harmful"] == harmful]
        counted = Counter(meta["attack"] for meta in these)
        bad = Counter(meta["attack"] for meta in these if meta["declined"] != harmful)
        wrapped, failed = counted.total() - counted[PLAIN], bad.total() - bad[PLAIN]
        if wrapped:
            rates[before + name] = failed / wrapped
        rates |= {f"{before}{kind}/{name}": bad[kind] / counted[kind] for kind in sorted(counted)}
    return rates


def _write_items(
    held: dict[bool, list[Row]], learnt: Kinds, kinds: Kinds, config: RedteamConfig, run: StageRun
) -> None:
    """Requests never attacked here, in kinds of attack that are not learnt from, and in those that are."""
    rng = random.Random(f"{run.seed}/redteam/items")
    others = {kind: attacks for kind, attacks in kinds.items() if kind not in learnt}
    rows = [
        *(redteam.items("redteam", held[True], others, config.items, rng) if others else ()),
        *redteam.items("redteam_seen", held[True], learnt, config.items, rng),
        *(redteam.items("redteam_benign", held[False], kinds, config.items, rng) if held[False] else ()),
    ]
    run.metrics["tasks"] = write_jsonl(run.directory / "tasks" / "tasks.jsonl", rows)
