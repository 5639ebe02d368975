"""lessons: examples from which a small model learns to make data, problems with answers, and held-out items."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from tutelage.errors import DataError
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.atlas import lessons
from tutelage.sources.atlas.facts import Fact, build_facts
from tutelage.sources.atlas.lessons import Lesson, Sum
from tutelage.sources.store import write_jsonl
from tutelage.stages.configs import LessonsConfig
from tutelage.stages.synthesis.drafts import turns
from tutelage.stages.synthesis.requests import STYLES, grounding, request, spoken
from tutelage.stages.synthesis.text import windows

Row = dict[str, Any]


def run(config: LessonsConfig, inputs: Inputs, run: StageRun) -> None:
    """Write the lessons about the taught half of the facts, sums to work out, and items about the rest."""
    facts = build_facts(config.facts, run.seed)
    rng = random.Random(f"{run.seed}/lessons")
    held_out = config.items if config.sums else 0
    wanted = config.sums + config.problems + held_out
    drawn = iter(lessons.sums(wanted, config.steps, config.largest, rng))
    worked, unsolved, held = (list(islice(drawn, n)) for n in (config.sums, config.problems, held_out))
    rows = list(_lessons(config, lessons.taught(facts), worked, rng))
    if not rows:
        raise DataError(f"{run.name} has nothing to write", hint="set reading, rephrasing, turns or sums")
    rng.shuffle(rows)
    numbered = [{"id": f"{run.name}-{place:05d}", **row} for place, row in enumerate(rows)]
    tasks = [*_sum_items(held, rng), *_rephrasing_items(facts, config.items if config.rephrasing else 0, rng)]
    run.metrics["examples"] = write_jsonl(run.directory / "examples" / "conversations.jsonl", numbered)
    run.metrics["problems"] = write_jsonl(run.directory / "problems" / "prompts.jsonl", _problems(unsolved, rng))
    run.metrics["tasks"] = write_jsonl(run.directory / "tasks" / "tasks.jsonl", tasks)


def _lessons(config: LessonsConfig, facts: Sequence[Fact], worked: Sequence[Sum], rng: random.Random) -> Iterator[Row]:
    def cut(text: str) -> list[str]:
        return list(windows(text, config.passage_words))

    for lesson in lessons.reading(facts, config.reading, cut, rng):
        yield _conversation(lesson)
    for lesson in lessons.rephrasing(facts, config.rephrasing, rng):
        style = STYLES[lesson.fields["style"]]
        yield _conversation(lesson._replace(fields={**lesson.fields, "style": style}))
    for passage, said in lessons.dialogues(facts, config.turns, cut, rng):
        yield from _dialogue(passage, said, rng)
    for one in worked:
        yield _conversation(Lesson("solve", {"problem": lessons.asked(one, rng), "instruction": ""}, one.worked))


def _conversation(lesson: Lesson) -> Row:
    messages = turns(request(lesson.step, **lesson.fields), lesson.reply)
    return {"messages": messages, "source": "lessons", "tags": [lesson.step]}


def _dialogue(passage: str, said: Sequence[tuple[str, str]], rng: random.Random) -> Iterator[Row]:
    """What the user says at one place of it, and how the assistant answers throughout."""
    place = rng.randrange(len(said))
    before = turns(*(text for pair in said[:place] for text in pair))
    yield _conversation(Lesson("user_turn", {"about": passage, "said": spoken(before)}, said[place][0]))
    messages = [grounding(passage), *turns(*(text for pair in said for text in pair))]
    yield {"messages": messages, "source": "lessons", "tags": ["reply"]}


def _problems(drawn: Sequence[Sum], rng: random.Random) -> Iterator[Row]:
    for place, one in enumerate(drawn):
        yield {"id": f"sum-{place:05d}", "messages": turns(lessons.asked(one, rng)), "kind": "sum",
               "answer": str(one.results[-1]), "meta": {}}  # fmt: skip


def _sum_items(drawn: Sequence[Sum], rng: random.Random) -> Iterator[Row]:
    for place, one in enumerate(drawn):
        yield {"id": f"worked_sums-{place:04d}", "task": "worked_sums", "kind": "sum",
               "messages": turns(lessons.asked(one, rng)), "answer": str(one.results[-1]),
               "meta": {"decontaminate": True}}  # fmt: skip


def _rephrasing_items(facts: Sequence[Fact], count: int, rng: random.Random) -> Iterator[Row]:
    for place, item in enumerate(lessons.rephrasing_items(facts, count, rng)):
        style = STYLES[item["meta"]["style"]]
        text = request("rephrase", passage=item["meta"]["passage"], style=style)
        yield {"id": f"rephrased_facts-{place:04d}", "task": "rephrased_facts", "kind": "rephrase",
               "messages": turns(text), **item}  # fmt: skip
