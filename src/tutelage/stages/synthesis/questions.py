"""Questions with their answers: from passages, with the passage as evidence, or on a topic by its name."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.stages.synthesis.drafts import Draft, sound, turns
from tutelage.stages.synthesis.meaning import about, agreement, support
from tutelage.stages.synthesis.studio import Studio

SHOWN = 5  # questions on the same topic that a new one is not to be like
AGREES = 0.5


def make(drafts: Sequence[Draft], studio: Studio) -> None:
    """A question for each draft, its answer, and if asked for a second answer that must agree."""
    if studio.config.topics:
        _about_topics(drafts, studio)
    else:
        asked = studio.ask("question", [(draft, {"passage": draft.parent.text}) for draft in drafts])
        for draft, question in zip(drafts, asked, strict=True):
            strange = about(draft.parent.text, question)
            _asked(draft, question)
            draft.check("off_passage", ", ".join(strange), not strange)
    _answer(sound(drafts), studio)


def _about_topics(drafts: Sequence[Draft], studio: Studio) -> None:
    """What was asked about a topic before is shown, so that the next question is another one."""
    jobs = []
    for draft in drafts:
        before = studio.said_of(draft.parent.id)[-SHOWN:]
        others = " It is not to be like these:\n" + "\n".join(before) if before else ""
        jobs.append((draft, {"topic": draft.parent.text, "others": others}))
    for draft, question in zip(drafts, studio.ask("topic_question", jobs), strict=True):
        _asked(draft, question)


def _asked(draft: Draft, question: str) -> None:
    draft.key = question
    draft.check("one_question", question.count("?"), question.endswith("?") and question.count("?") == 1)


def _answer(drafts: Sequence[Draft], studio: Studio) -> None:
    grounded = not studio.config.topics
    step = "answer" if grounded else "open_answer"

    def fields(draft: Draft, passage: bool) -> dict[str, str]:
        return {"question": draft.key, **({"passage": draft.parent.text} if passage else {})}

    answers = studio.ask(step, [(draft, fields(draft, grounded)) for draft in drafts])
    for draft, answer in zip(drafts, answers, strict=True):
        draft.messages = turns(draft.key, answer)
        if grounded:
            _stands_there(draft, answer, studio.config.least_support)
    if studio.config.agreement != "off":
        reads = studio.config.agreement == "passage"
        left = sound(drafts)
        second = studio.ask(
            "answer" if reads else "open_answer", [(draft, fields(draft, reads)) for draft in left], "second_answer"
        )
        for draft, other in zip(left, second, strict=True):
            value = agreement(draft.key, draft.messages[-1]["content"], other)
            draft.check("agreement", value, value >= AGREES)


def _stands_there(draft: Draft, answer: str, least: float) -> None:
    found = support(draft.parent.text, draft.key, answer)
    draft.evidence = found.evidence
    draft.check("not_in_passage", ", ".join(found.strange), not found.strange)
    draft.check("support", found.words, found.words >= least)
    draft.check("says_something", found.new, found.new > 0)
