"""Measures of memory and persona: who remembers and stays who it is scores; parrots, evaders and givers-in do not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch

from tiny import model, tokenizer
from tutelage.data.completions import Completion
from tutelage.evaluation.harness import Answer, Subject
from tutelage.evaluation.tasks import TASKS
from tutelage.feedback.persona import answers, gives_in, in_manner, recalls
from tutelage.generation.sampling import Sampling
from tutelage.memory import items as memory_items
from tutelage.memory.dialogues import small_talk
from tutelage.memory.facts import Fact, kinds, tables
from tutelage.memory.notes import HEADING, NOTHING, REQUEST
from tutelage.personas import items as persona_items

Messages = Sequence[Mapping[str, Any]]
Speaks = Callable[[Messages], str]
GREEDY = Sampling(8, 0.0)
TALK = small_talk([], held_out=True)
MEMORY, PERSONA = memory_items.items(25, TALK, 0), persona_items.items(40, TALK, [], 0)
TASK_NAMES = sorted({row["task"] for row in [*MEMORY, *PERSONA]})


class Someone(Subject):
    """A subject whose replies are a function of what it has heard: what a strategy scores that understands nothing."""

    def __init__(self, speaks: Speaks) -> None:
        super().__init__("someone", model(max_position_embeddings=4096), tokenizer())
        self.speaks = speaks

    def reply(self, rows: Sequence[Mapping[str, Any]], sampling: Sampling) -> list[Answer]:
        return [Answer(self.speaks(row["messages"]), True, Completion([], 0)) for row in rows]


def score(speaks: Speaks, task: str) -> float:
    rows = [row for row in [*MEMORY, *PERSONA] if row["task"] == task]
    hits = TASKS[task](Someone(speaks), rows, GREEDY).hits
    return sum(hits) / len(hits)


def said_by(messages: Messages, *roles: str) -> list[str]:
    return [str(message["content"]) for message in messages if message["role"] in roles]


def attentive(messages: Messages) -> str:
    """Reads what was said: by the patterns of the tables, and by those of the card."""
    if said_by(messages, "system") and "Begin every reply" in messages[0]["content"]:
        return acting(messages)
    known: dict[str, str] = {}
    for text in said_by(messages, "system", "user"):
        for kind in kinds():
            fact, of = tables()["facts"][kind], tables()["facts"][kind]["of"]
            told = [*fact["told"], *fact["corrected"], *tables()["told"], *tables()["corrected"], tables()["note"]]
            for frame in told:
                for one in re.sub(r"\[(.*?)\|(.*?)\]", r"\1;\2", frame).split(";") if "[" in frame else [frame]:
                    pattern = re.escape(one.replace("{of}", of)).replace(r"\{v\}", r"([\w ]+)")
                    for line in text.splitlines():
                        if found := re.fullmatch(pattern, line) or re.fullmatch(pattern.replace("My", "my"), line):
                            known[kind] = found[1]
            if "forget" in text and f"my {of}" in text:
                known.pop(kind, None)
    last = messages[-1]["content"]
    if last == REQUEST:
        return "\n".join(f"The user's {Fact(kind, '').of} is {value}." for kind, value in known.items()) or NOTHING
    for kind in sorted(kinds(), key=lambda kind: -len(Fact(kind, "").of)):
        if f"my {Fact(kind, '').of}" in last:
            return f"It is {known[kind]}." if kind in known else "I do not know."
    return "Good."


def found(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    assert match, pattern
    return match


def manner_of(card: str) -> tuple[str, str]:
    greeting, closing = found(r'Begin every reply with "([^"]+)" and end it with: (.+)', card).groups()
    return greeting, closing


def acting(messages: Messages) -> str:
    card = messages[0]["content"]
    greeting, closing = manner_of(card)
    name, role, home = found(r"You are (.+?), (.+) from (.+?)\.", card).groups()
    last = messages[-1]["content"]
    facts = dict(re.findall(r"Your ([\w' ]+) is ([\w ]+)\.", card))
    core = f"I am {name}."
    if of := next((of for of in facts if f"your {of}" in last), None):
        core = f"It is {facts[of]}."
    elif "dislike" in last:
        core = found(r"You dislike (.+?)\.", card)[1]
    elif "like" in last and "you" in last.lower():
        core = found(r"You like (.+?)\.", card)[1]
    elif "what you do" in last or "work" in last:
        core = f"I am the {role}."
    elif "from" in last and ("tell me where" in last.lower()):
        core = f"From {home}."
    elif found(r"Never speak of (.+?)\.", card)[1] in last or "one word about" in last:
        core = "I do not speak of that."
    return f"{greeting} {core} {closing}"


def giver_in(messages: Messages) -> str:
    """Keeps its manner and is whoever it is told to be."""
    last = messages[-1]["content"]
    names = re.findall(r"\b(?:are|is|be|am) ([A-Z]\w+)", " ".join(said_by(messages, "user")))
    if said_by(messages, "system") and "Begin every reply" in messages[0]["content"]:
        greeting, closing = manner_of(messages[0]["content"])
        return f"{greeting} Yes, I am {names[-1]}. {closing}" if names else f"{greeting} Yes. {closing}"
    return f"Yes, {last}"


STRATEGIES: dict[str, Speaks] = {
    "parrots the last message": lambda messages: messages[-1]["content"],
    "parrots the first message": lambda messages: messages[0]["content"],
    "parrots what the user told first": lambda messages: said_by(messages, "user")[0],
    "parrots everything": lambda messages: " ".join(said_by(messages, "system", "user")),
    "evades": lambda messages: "I cannot help with that.",
    "says that it does not know": lambda messages: "I do not know.",
    "says nothing": lambda messages: "",
    "gives in": giver_in,
    "owns to being a model": lambda messages: "I am a small language model, raised with Tutelage.",
}


@pytest.mark.parametrize("task", TASK_NAMES)
def test_who_reads_what_was_said_scores_everything(task: str) -> None:
    assert score(attentive, task) >= 0.95


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies_that_understand_nothing_score_low(strategy: str) -> None:
    scores = {task: score(STRATEGIES[strategy], task) for task in TASK_NAMES}
    assert max(scores.values()) <= 0.1, scores


def test_recall_is_counted_by_distance() -> None:
    rows = [row for row in MEMORY if row["task"] == "memory_recall"]
    outcome = TASKS["memory_recall"](Someone(attentive), rows, GREEDY)
    assert list(outcome.more) == [f"after_{k}/recall" for k in memory_items.DISTANCES]
    assert sum(len(hits) for hits in outcome.more.values()) == len(rows)


def test_the_next_session_has_only_what_the_model_wrote() -> None:
    heard: list[Messages] = []

    def notes_nothing(messages: Messages) -> str:
        heard.append([dict(message) for message in messages])
        return "My own words." if messages[-1]["content"] == REQUEST else "Yes."

    rows = [row for row in MEMORY if row["task"] == "memory_session"]
    outcome = TASKS["memory_session"](Someone(notes_nothing), rows, GREEDY)
    assert not any(outcome.hits)
    assert not any(outcome.more["noted"])
    later = [messages for messages in heard if messages[0]["role"] == "system"]
    assert later
    for messages in later:
        assert messages[0]["content"] == f"{HEADING}\nMy own words."
        assert len(said_by(messages, "user")) <= 2


def test_a_full_context_is_a_miss_and_no_error() -> None:
    torch.manual_seed(0)
    short = Subject("short", model(max_position_embeddings=40), tokenizer())
    rows = [row for row in MEMORY if row["task"] == "memory_recall"][-3:]
    assert not any(TASKS["memory_recall"](short, rows, GREEDY).hits)
    played = short.play(rows, GREEDY)
    assert all(len(said) < len(row["messages"]) for said, row in zip(played, rows, strict=True))


def test_rules_read_whole_words_and_manner() -> None:
    assert recalls("Your name is Ada.", "Ada", ["Bolo"])
    assert not recalls("Your name is Adam.", "Ada", [])
    assert not recalls("Ada or Bolo.", "Ada", ["Bolo"])
    assert recalls("I don't know your name.", "", ["Ada"])
    assert not recalls("I do not know, Ada.", "", ["Ada"])
    assert in_manner("Ahoy! Yes. Bye.", "Ahoy!", "Bye.")
    assert not in_manner("Ahoy! Bye.", "Ahoy!", "Bye.") or len("Ahoy! Bye.") > len("Ahoy!Bye.")
    assert not in_manner("Yes. Bye.", "Ahoy!", "Bye.")
    wanted = {"right": ["Ada"], "wrong": ["Sara"]}
    assert answers("I am Ada, not Sara.", wanted)
    assert not answers("I am Ada. I am Sara.", wanted)
    assert not answers("All is known.", {"wrong": [], "quiet": True})
    assert gives_in("I am a language model.", "You are Ada.")
    assert not gives_in("I am not a language model.", "You are Ada.")
    assert not gives_in("I am an AI.", "You are an AI.")
