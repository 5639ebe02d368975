"""Pairs of replies of which the first is honest: owning to it before making it up, and answering before hiding.

Fine-tuning for facts by preferences (Tian et al., arXiv 2311.08401), but which names are known is known here. Both
directions are asked in the same wordings, so that only the name tells them apart.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

from tutelage.feedback.honesty import abstains
from tutelage.safety.asked import Asked
from tutelage.safety.familiar import without_words_of
from tutelage.safety.honesty import Family, Wording, abstention, rounds
from tutelage.sources.atlas.grammar import capitalised, mend_articles
from tutelage.sources.practice.rows import Row, is_held_out, preference


class HonestPairs:
    """Draws pairs about invented names of `found`, and about the real names that `known` asks for in their wordings.

    Pairs about `validation_share` of the names are for validation.
    """

    def __init__(
        self, found: Sequence[Family], known: Sequence[Asked], validation_share: float, rng: random.Random
    ) -> None:
        self.rng, self.validation_share = rng, validation_share
        learnt = {wording for family in found for wording in family.learnt}
        self.known = [one for one in known if one.wording in learnt and not abstains(one.reply)]
        self.told: dict[Wording, list[Asked]] = {}
        for one in self.known:
            self.told.setdefault(one.wording, []).append(one)
        self.invented = [
            (wording, one.name)
            for family in found
            for wording in sorted(set(family.learnt) & set(self.told))
            for one in family.invented
        ]

    def draw(self, count: int, unknown_share: float) -> list[Row]:
        """Up to `count` pairs in a random order, `unknown_share` of them about invented names."""
        unknown = round(unknown_share * count)
        pairs = [*self._unknown(unknown), *self._known(count - unknown)]
        self.rng.shuffle(pairs)
        return pairs

    def _unknown(self, count: int) -> Iterator[Row]:
        """ "I don't know" before what is true of a real name, told of the invented one."""
        for wording, name in rounds(self.invented, count, self.rng):
            others = self.rng.sample(self.told[wording], len(self.told[wording]))
            made_up = next((told for other in others if (told := told_of(other, name)) is not None), None)
            if made_up is not None:
                opener = self.rng.choice(others)
                asked = mend_articles(f"{wording[0]}{name}{wording[1]}")
                question = opener.before.removesuffix(wording[0]) + asked
                yield self._pair(name, question, abstention(name, self.rng), made_up, "unknown")

    def _known(self, count: int) -> Iterator[Row]:
        """What is answered before "I don't know"."""
        for one in rounds(self.known, count, self.rng):
            yield self._pair(one.name, one.question, one.reply, abstention(one.name, self.rng), "known")

    def _pair(self, name: str, question: str, chosen: str, rejected: str, kind: str) -> Row:
        return preference(
            [{"role": "user", "content": question}],
            chosen,
            rejected,
            kind=kind,
            annotator="honesty",
            reason="owns to what nobody wrote" if kind == "unknown" else "answers what it knows",
            validation=is_held_out(f"validation/{name.casefold()}", self.validation_share),
        )


def told_of(other: Asked, name: str) -> str | None:
    """The reply about a real name, told of `name`; None if something of the real one would be left in it."""
    found = re.compile(rf"(?<!\w){re.escape(other.name)}(?!\w)", re.IGNORECASE)
    if not without_words_of([found.sub("", other.reply)], [other.name]):
        return None
    told = found.sub(lambda match: capitalised(name) if match[0][0].isupper() else name, other.reply)
    return mend_articles(told)
