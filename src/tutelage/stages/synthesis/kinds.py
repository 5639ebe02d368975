"""`KINDS`: what `synthesize` can make, and the function that takes drafts from nothing to whole rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tutelage.stages.synthesis import conversing, instructing, questions, reasoning, rephrasing
from tutelage.stages.synthesis.drafts import Draft
from tutelage.stages.synthesis.studio import Studio

KINDS: Mapping[str, Callable[[Sequence[Draft], Studio], None]] = {
    "questions-answers": questions.make,
    "reasoning": reasoning.make,
    "conversations": conversing.make,
    "rephrase": rephrasing.make,
    "self-instruct": instructing.make,
}
