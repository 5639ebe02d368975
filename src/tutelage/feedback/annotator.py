"""A simulated annotator: follows a rubric that the models never see, errs at a stated rate, gives a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from tutelage.feedback.rubric import Judged, Rubric

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Annotator:
    """Prefers the reply with the higher score; with probability `noise` names the other one. Ties are left out."""

    rubric: Rubric
    noise: float
    name: str = "simulated-1"

    def compare(
        self, prompt: Mapping[str, Any], replies: Sequence[Mapping[str, Any]], seed: int
    ) -> list[dict[str, Any]]:
        """Every pair of differing replies to one prompt as a row of `preferences.jsonl`, without `id` and `split`.

        Replies are shown in random order; pairs of one prompt share the weight of one ranking (1 / number of pairs).
        """
        random = np.random.Generator(np.random.PCG64(seed))
        judged = [self.rubric.judge(prompt, r["completion"], r["finish_reason"] == "stop") for r in replies]
        pairs = [(a, b) for a, b in combinations(range(len(replies)), 2) if judged[a].score != judged[b].score]
        rows = []
        for a, b in pairs:
            better, worse = (a, b) if judged[a].score > judged[b].score else (b, a)
            shown = [a, b] if random.random() < 0.5 else [b, a]
            flipped = bool(random.random() < self.noise)
            chosen, rejected = (worse, better) if flipped else (better, worse)
            rows.append(
                {
                    "prompt_id": prompt["id"],
                    "prompt": prompt["messages"],
                    "kind": prompt["kind"],
                    "chosen": replies[chosen]["completion"],
                    "rejected": replies[rejected]["completion"],
                    "chosen_finished": replies[chosen]["finish_reason"] == "stop",
                    "rejected_finished": replies[rejected]["finish_reason"] == "stop",
                    "annotator": self.name,
                    "shown": [replies[place]["completion"] for place in shown],
                    "reason": _reason(judged[better], judged[worse], flipped),
                    "weight": 1.0 / len(pairs),
                    "clean_preference": not flipped,
                }
            )
        return rows


def _reason(better: Judged, worse: Judged, flipped: bool) -> str:
    """What the two replies differ in, as an annotator would say it."""
    if flipped:
        return "a slip: the other reply is the better one"
    gained = [name.replace("_", " ") for name in better.criteria if name not in worse.criteria]
    lost = [name.replace("_", " ") for name in worse.criteria if name not in better.criteria]
    parts = [f"the chosen one {', '.join(gained)}" if gained else "", f"the other {', '.join(lost)}" if lost else ""]
    return "; ".join(part for part in parts if part)
