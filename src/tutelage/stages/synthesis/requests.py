"""What a model is asked in each step of making data, as text; and the styles of rephrasing.

`lessons` writes its examples with the same words, so that a small model can be fine-tuned on what it will be asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

REQUESTS: Mapping[str, str] = {
    "question": "{passage}\n\nWrite a question that this text answers.",
    "topic_question": "Write a question about {topic}.{others}",
    "answer": "{passage}\n\nAnswer from this text: {question}",
    "open_answer": "{question}",
    "solve": "{problem}{instruction}",
    "rephrase": "{passage}\n\nRewrite this text {style}.",
    "user_turn": "{about}\n\nYou are the user of an assistant and want to know more about this.{said}\n\n"
    "Write what the user says next.",
    "task": "Come up with a task for an assistant that is not like these:\n{others}",
    "output": "{task}",
}
STYLES: Mapping[str, str] = {
    "child": "for a five-year-old",
    "plain": "in plain words",
    "formal": "in formal language",
    "brief": "as briefly as possible",
    "lively": "in a lively way, as one would tell a friend",
}


def request(step: str, **fields: str) -> str:
    """The words of one step, filled in."""
    return REQUESTS[step].format(**fields)


def spoken(messages: Sequence[Mapping[str, str]]) -> str:
    """What was said so far, a line a turn."""
    return "".join(f"\n{message['role'].capitalize()}: {message['content']}" for message in messages)


def grounding(passage: str) -> dict[str, str]:
    """The system message of an assistant who is to answer from a passage."""
    return {"role": "system", "content": f"Answer from this text: {passage}"}
