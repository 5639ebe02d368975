"""Conversations of two roles: one model plays the user, who wants to know more of a passage or a topic; one answers."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.stages.synthesis.drafts import Draft, sound
from tutelage.stages.synthesis.meaning import support
from tutelage.stages.synthesis.requests import grounding, spoken
from tutelage.stages.synthesis.studio import Studio
from tutelage.stages.synthesis.text import content_words


def make(drafts: Sequence[Draft], studio: Studio) -> None:
    """`turns` turns of the user, each with its reply; a conversation that goes wrong is not gone on with."""
    grounded = not studio.config.topics
    for number in range(1, studio.config.turns + 1):
        going = sound(drafts)
        said = studio.ask(
            "user_turn",
            [(draft, {"about": draft.parent.text, "said": spoken(draft.messages)}) for draft in going],
            f"user_{number}",
        )
        for draft, text in zip(going, said, strict=True):
            before = [message["content"] for message in draft.messages if message["role"] == "user"]
            fresh = all(content_words(text) != content_words(other) for other in before)
            draft.check(f"user_{number}_is_new", len(before), fresh and not text.startswith(("User:", "Assistant:")))
            draft.messages.append({"role": "user", "content": text})
        _reply(sound(drafts), studio, grounded, number)
    for draft in drafts:
        draft.key = "\n".join(message["content"] for message in draft.messages if message["role"] == "user")


def _reply(drafts: Sequence[Draft], studio: Studio, grounded: bool, number: int) -> None:
    """The assistant answers; about a passage from the passage, which is not part of the conversation that is kept."""
    jobs = []
    for draft in drafts:
        messages = [dict(message) for message in draft.messages]
        if grounded:
            messages.insert(0, grounding(draft.parent.text))
        jobs.append((draft, messages))
    for draft, text in zip(drafts, studio.say("reply", jobs, f"reply_{number}"), strict=True):
        question = " ".join(message["content"] for message in draft.messages)
        draft.messages.append({"role": "assistant", "content": text})
        if grounded:
            strange = support(draft.parent.text, question, text).strange
            draft.check(f"reply_{number}_not_in_passage", ", ".join(strange), not strange)
