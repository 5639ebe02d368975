"""What every row goes through, whatever its kind: curation's private strings, harm, evaluation items, duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tutelage.curation.decontaminate import Item, find_contamination
from tutelage.curation.duplicates import near_pairs
from tutelage.curation.harm import harm_score, harm_spans
from tutelage.curation.pii import find_pii
from tutelage.curation.words import WordHasher, normal_words, split_words
from tutelage.stages.synthesis.drafts import Draft
from tutelage.stages.synthesis.text import content_words, sentences


@dataclass
class Filters:
    """The filters with their limits, and what is kept so far: a row must not repeat any of it."""

    items: Sequence[Item]
    most_harm: float
    jaccard: float
    ordered: bool = False  # the same words in another order are another text: of sums, not of questions
    hasher: WordHasher = field(default_factory=WordHasher)
    kept: list[str] = field(default_factory=list)  # keys
    forms: set[tuple[str, ...]] = field(default_factory=set)
    repeated: int = 0

    def judge(self, drafts: Sequence[Draft]) -> None:
        """Ask all filters about the sound drafts; duplicates last, so that no rejected row stands for others."""
        for draft in alive(drafts):
            self._private(draft)
            self._harm(draft)
        self._contaminated(alive(drafts))
        self._repeating(alive(drafts))

    def _private(self, draft: Draft) -> None:
        found = sum(len(find_pii(message["content"])) for message in draft.messages)
        draft.check("private_strings", found, found == 0)

    def _harm(self, draft: Draft) -> None:
        text = whole(draft)
        score = harm_score(harm_spans(text), len(sentences(text)))
        draft.check("harm", score, score <= self.most_harm)

    def _contaminated(self, drafts: Sequence[Draft]) -> None:
        if not self.items or not drafts:
            return
        words = split_words([whole(draft) for draft in drafts], self.hasher)
        found = find_contamination(words, self.items, self.hasher).documents
        for place, draft in enumerate(drafts):
            draft.check("evaluation_item", found.get(place, ""), place not in found)

    def _repeating(self, drafts: Sequence[Draft]) -> None:
        """By words that carry meaning, in any order or not, and by curation's word 5-grams; the first stays."""
        start = len(self.kept)
        pairs = near_pairs(split_words([*self.kept, *(draft.key for draft in drafts)], self.hasher), self.jaccard)
        near = {right: similarity for left, right, similarity in reversed(pairs)}
        earlier: dict[int, list[int]] = {}
        for left, right, _ in pairs:
            earlier.setdefault(right, []).append(left)
        gone: set[int] = set()
        for place, draft in enumerate(drafts, start=start):
            form = form_of(draft.key, self.ordered)
            similarity = near[place] if set(earlier.get(place, ())) - gone else 1.0 if form in self.forms else 0.0
            if draft.check("repeats", similarity, similarity == 0.0):
                self.forms.add(form)
            else:
                gone.add(place)
                self.repeated += 1
        self.kept += [draft.key for draft in drafts]


def form_of(text: str, ordered: bool) -> tuple[str, ...]:
    """A text's content words by the alphabet (`Peru's capital?` is `The capital of Peru?`), or all as they are."""
    return tuple(normal_words(text) if ordered else sorted(content_words(text)))


def whole(draft: Draft) -> str:
    """Everything that is said in a row."""
    return "\n".join(message["content"] for message in draft.messages)


def alive(drafts: Iterable[Draft]) -> list[Draft]:
    """Those to which nothing objected so far."""
    return [draft for draft in drafts if draft.sound]
