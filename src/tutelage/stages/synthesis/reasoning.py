"""Problems worked out step by step; only solutions that every verifier confirms stay (rejection sampling: Yuan et al.,
arXiv 2308.01825; STaR: Zelikman et al., arXiv 2203.14465).
"""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.stages.synthesis.drafts import Draft, turns
from tutelage.stages.synthesis.studio import Studio
from tutelage.tools.verifiers import VERIFIERS


def make(drafts: Sequence[Draft], studio: Studio) -> None:
    """A solution for each draft, shown to the verifiers one after the other until one disagrees."""
    jobs = [(draft, {"problem": draft.parent.text, "instruction": studio.config.instruction}) for draft in drafts]
    for draft, solution in zip(drafts, studio.ask("solve", jobs), strict=True):
        draft.messages = turns(draft.parent.text, solution)
        draft.key = f"{draft.parent.text} {solution}"
        for name in studio.config.verify:
            if draft.sound:
                verdict = VERIFIERS[name](solution, draft.parent.text, str(draft.parent.extra["answer"] or ""))
                draft.check(name, verdict.seen, verdict.agrees)
