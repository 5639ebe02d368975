"""The drill before memory: to say after somebody, and to look up which word belongs to which.

Remembering is copying from far back. A small model learns that from many copies of any words at all, not from names.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tutelage.sources.practice.rows import Row, row_hash
from tutelage.sources.practice.words import Words

_SAY = ("Say after me: {w}", "Repeat: {w}", 'Say: "{w}"', 'Repeat "{w}"')  # in quotes the first token is the same one


def conversations(count: int, words: Words, seed: int) -> Iterator[Row]:
    """`count` short conversations of two to four exchanges."""
    rng = random.Random(f"{seed}/drill")
    for _ in range(count):
        messages: list[Row] = []
        for _ in range(rng.randint(2, 4)):
            messages += _after_me(rng, words) if rng.random() < 0.5 else _look_up(rng, words)
        yield {"id": row_hash(messages), "messages": messages, "source": "memory", "tags": ["drill"]}


def _after_me(rng: random.Random, words: Words) -> list[Row]:
    said = " ".join(words.draw(rng) for _ in range(rng.randint(3, 10)))
    return [
        {"role": "user", "content": rng.choice(_SAY).format(w=said)},
        {"role": "assistant", "content": said},
    ]


def _look_up(rng: random.Random, words: Words) -> list[Row]:
    """Pairs of words, of which two are asked for in another order."""
    names: list[str] = []
    while len(names) < rng.randint(2, 5):
        name = words.draw(rng)
        if name not in names:
            names.append(name)
    pairs = {name: words.draw(rng) for name in names}
    told = " ".join(f"My {name} is {value}." for name, value in pairs.items())
    messages = [{"role": "user", "content": told}, {"role": "assistant", "content": "I will remember that."}]
    for name in rng.sample(names, 2):
        messages.append({"role": "user", "content": f"What is my {name}?"})
        messages.append({"role": "assistant", "content": f"Your {name} is {pairs[name]}."})
    return messages
