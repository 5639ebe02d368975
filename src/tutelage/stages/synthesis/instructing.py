"""New instructions from a pool of old ones, each with its output (Self-Instruct: Wang et al., arXiv 2212.10560)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tutelage.curation.words import normal_words
from tutelage.stages.synthesis.drafts import Draft, sound, turns
from tutelage.stages.synthesis.studio import Studio
from tutelage.stages.synthesis.text import rouge_l

SEEDS_SHOWN, OWN_SHOWN = 6, 2  # as published
FEWEST_WORDS, MOST_WORDS = 3, 150


def make(drafts: Sequence[Draft], studio: Studio) -> None:
    """An instruction unlike those shown and those of the pool, and what a good assistant does about it."""
    seeds, own = studio.seeds, studio.said_of()
    jobs = []
    for draft in drafts:
        draw = random.Random(draft.seed)
        shown = draw.sample(own, min(OWN_SHOWN, len(own)))
        shown += draw.sample(seeds, min(SEEDS_SHOWN, len(seeds)))
        draw.shuffle(shown)
        jobs.append((draft, {"others": "\n".join(f"{number}. {text}" for number, text in enumerate(shown, 1))}))
    pool = [normal_words(text) for text in [*seeds, *own]]
    for draft, task in zip(drafts, studio.ask("task", jobs), strict=True):
        draft.key = task
        words = normal_words(task)
        draft.check("length", len(words), FEWEST_WORDS <= len(words) <= MOST_WORDS)
        alike = max((rouge_l(words, other) for other in pool), default=0.0)
        if draft.check("like_another", alike, alike < studio.config.most_alike):
            pool.append(words)
    left = sound(drafts)
    outputs = studio.ask("output", [(draft, {"task": draft.key}) for draft in left])
    for draft, output in zip(left, outputs, strict=True):
        draft.messages = turns(draft.key, output)
        draft.check("not_the_task", 0, normal_words(output) != normal_words(draft.key))
