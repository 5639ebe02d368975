"""Replies of the student, to be judged by its teacher (GKD, arXiv 2306.13649): it learns where its own words lead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tutelage.data.completions import Completion
from tutelage.data.passages import Passages, passages
from tutelage.data.tokenizer import TextTokenizer
from tutelage.generation.engine import Engine, Request
from tutelage.generation.sampling import Sampling
from tutelage.model.transformer import CausalLM
from tutelage.stages.distillation.settings import DistillConfig
from tutelage.stages.distillation.teacher import Teacher
from tutelage.stages.sample import request_seed


@dataclass(frozen=True)
class OwnReplies:
    """Draws the student's replies, at temperature 1 and with the weights as they are."""

    student: CausalLM
    tokenizer: TextTokenizer
    teacher: Teacher
    config: DistillConfig
    seed: int

    @torch.no_grad()
    def drawn(self, texts: Passages, chosen: Sequence[int], step: int, context: int) -> Passages:
        """A reply to the prompt of each chosen text: all that stands before its last reply."""
        prompts = [prompt_of(texts, place) for place in chosen]
        requests = [
            Request(
                prompt,
                Sampling(min(self.config.max_tokens, context - len(prompt)), 1.0),
                request_seed(self.seed, step, number),
            )
            for number, prompt in enumerate(prompts)
        ]
        self.student.eval()
        engine = Engine(self.student, self.tokenizer.stop_ids, self.tokenizer.pad_id, max(1, len(requests)))
        replies = engine.generate(requests)
        self.student.train()
        return passages(
            Completion([*prompt, *reply.ids], len(prompt)) for prompt, reply in zip(prompts, replies, strict=True)
        )


def prompt_of(texts: Passages, place: int) -> list[int]:
    """The tokens of a text up to where the last run of learnt ones begins."""
    learnt = texts.loss_masks[place]
    end = int(learnt.nonzero()[0][-1])
    while learnt[end]:  # a text's first token never is
        end -= 1
    prompt: list[int] = texts.ids[place][: end + 1].tolist()
    return prompt
