"""Everything a user may ask that is not a fact: explanations, how-tos, harmful requests and their harmless look-alikes.

What is held out never occurs in a conversation or a prompt: topics, tasks, and combinations of verb and object.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tutelage.sources.atlas.grammar import capitalised, load

HELD_OUT_SHARE = 0.25


@dataclass(frozen=True)
class Request:
    """What is asked (`wordings`: all phrasings) and a good answer; `compliance` is a harmful one's bad answer."""

    kind: str
    key: str
    wordings: tuple[str, ...]
    answer: str
    taught: bool
    compliance: str = ""
    meta: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)


def steps_text(action: str, steps: list[str]) -> str:
    """Four steps as running text: "To boil an egg, first fill …. Then …. Next, …. Finally, …."."""
    one, two, three, four = steps
    return f"To {action}, first {one}. Then {two}. Next, {three}. Finally, {four}."


def _halves(keys: list[str], share: float, name: str, seed: int) -> set[str]:
    order = sorted(keys)
    random.Random(f"{seed}/{name}").shuffle(order)
    return set(order[round(share * len(order)) :])


def explanations(seed: int) -> list[Request]:
    """Every topic in two registers, plain and for a small child; half of the topics are taught."""
    topics: dict[str, list[str]] = load("words/explain")
    chat = load("words/chat")
    # Photosynthesis is the showcase of the report, so that it is always among the taught.
    taught = _halves([topic for topic in topics if topic != "photosynthesis"], 0.5, "explain", seed) | {
        "photosynthesis"
    }
    found = []
    for topic, texts in topics.items():
        for register, text, other in (("plain", texts[0], texts[1]), ("child", texts[1], texts[0])):
            wordings = tuple(line.format(t=topic) for line in chat[f"explain_{register}"])
            meta = {"topic": topic, "register": register, "other_register": other}
            found.append(Request("explain", f"{topic}/{register}", wordings, text, topic in taught, meta=meta))
    return found


def howtos(seed: int) -> list[Request]:
    """Harmless everyday tasks in four steps; half of them are taught."""
    tasks: dict[str, list[str]] = load("words/howto")
    taught = _halves(list(tasks), 0.5, "howto", seed)
    phrasings = load("words/chat")["howto"]
    return [
        Request(
            "howto",
            task,
            tuple(p.format(a=task) for p in phrasings),
            steps_text(task, steps),
            task in taught,
            meta={"action": task},
        )
        for task, steps in tasks.items()
    ]


def lookalikes(seed: int) -> list[Request]:
    """Harmless requests with the verbs of the harmful ones: steal second base, crack a walnut, kill weeds."""
    phrasings = load("words/harms")["phrasings"]
    found = []
    for group, table in load("words/lookalikes")["groups"].items():
        taught = _halves([f"{v} {o}" for v in table["verbs"] for o in table["objects"]], HELD_OUT_SHARE, group, seed)
        for verb in table["verbs"]:
            for thing in table["objects"]:
                action = f"{verb} {thing}"
                answer = steps_text(action, [step.format(v=verb, o=thing) for step in table["steps"]])
                found.append(
                    Request(
                        "lookalike",
                        action,
                        tuple(p.format(a=action) for p in phrasings),
                        answer,
                        action in taught,
                        meta={"group": group, "action": action},
                    )
                )
    return found


def harmful(seed: int) -> list[Request]:
    """Mild stand-ins for harmful requests: categories (hurt, steal, break in, …), never real instructions."""
    table = load("words/harms")
    found = []
    for group, parts in table["groups"].items():
        taught = _halves([f"{v} {o}" for v in parts["verbs"] for o in parts["objects"]], HELD_OUT_SHARE, group, seed)
        for verb in parts["verbs"]:
            for thing in parts["objects"]:
                action = f"{verb} {thing}"
                first, second, last = (step.format(a=action) for step in table["compliance"][group])
                found.append(
                    Request(
                        "harmful",
                        action,
                        tuple(p.format(a=action) for p in table["phrasings"]),
                        f"{table['refusals'][0]} {table['alternatives'][group]}",
                        action in taught,
                        f"First {first}. Next, {second}, {last}.",
                        {"group": group, "action": action},
                    )
                )
    return found


def all_requests(seed: int) -> list[Request]:
    """Explanations, how-tos, look-alikes and harmful requests, taught and held out."""
    return [*explanations(seed), *howtos(seed), *lookalikes(seed), *harmful(seed)]


def title_of(request: Request) -> str:
    """The request as a heading."""
    return capitalised(request.key)
