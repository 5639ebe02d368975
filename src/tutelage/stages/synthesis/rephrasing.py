"""Passages rewritten in other styles and reading levels; what loses or adds a name, a number or too many words goes."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tutelage.stages.synthesis.drafts import Draft, turns
from tutelage.stages.synthesis.meaning import sameness
from tutelage.stages.synthesis.requests import STYLES, request
from tutelage.stages.synthesis.studio import Studio
from tutelage.stages.synthesis.text import content_words, rouge_l

SAME = 0.95  # ROUGE-L from which nothing was rewritten


def make(drafts: Sequence[Draft], studio: Studio) -> None:
    """A rewriting for each draft, in a style drawn by its seed."""
    styles = [random.Random(draft.seed).choice(studio.config.styles) for draft in drafts]
    fields = [
        {"passage": draft.parent.text, "style": STYLES[style]} for draft, style in zip(drafts, styles, strict=True)
    ]
    texts = studio.ask("rephrase", list(zip(drafts, fields, strict=True)))
    for draft, style, own, text in zip(drafts, styles, fields, texts, strict=True):
        draft.messages = turns(request("rephrase", **own), text)
        draft.key = f"{draft.parent.text} {style}"
        draft.tags = [style]
        draft.evidence = draft.parent.text
        _same_meaning(draft, text, studio.config.least_kept, studio.config.least_own)


def _same_meaning(draft: Draft, text: str, least_kept: float, least_own: float) -> None:
    found = sameness(draft.parent.text, text)
    draft.check("lost", ", ".join(found.lost), not found.lost)
    draft.check("added", ", ".join(found.added), not found.added)
    draft.check("kept", found.kept, found.kept >= least_kept)
    draft.check("own", found.own, found.own >= least_own)
    asks = "?" in draft.parent.text
    draft.check("asks", float(asks), not asks or "?" in text)
    alike = rouge_l(content_words(draft.parent.text), content_words(text))
    same = draft.parent.text.casefold() == text.casefold()
    draft.check("rewritten", alike, not same and not (alike >= SAME and len(text) == len(draft.parent.text)))
