"""The student: opened or begun, and whether it and its teacher have tokens in common."""

from __future__ import annotations

import torch

from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import RecipeError, TrainingError
from tutelage.model.hub import load_model_config
from tutelage.model.transformer import CausalLM, initialise
from tutelage.run.stage import Inputs, StageRun
from tutelage.stages.distillation.settings import DistillConfig
from tutelage.stages.models import open_trainable
from tutelage.stages.pretrain import model_config


def open_student(
    config: DistillConfig, inputs: Inputs, dtype: torch.dtype, run: StageRun
) -> tuple[CausalLM, TextTokenizer]:
    """The model to be trained and its tokenizer: `model`, or random weights of the given shape."""
    if "model" in inputs:
        student, tokenizer = open_trainable(inputs["model"], dtype, config.lora, run.seed)
    else:
        assert config.shape is not None, "the configuration asks for one of the two"
        tokenizer = TextTokenizer.load(inputs.get("tokenizer", inputs["teacher"]).path)
        teacher = load_model_config(inputs["teacher"].path)
        vocab_size = tokenizer.vocab_size if "tokenizer" in inputs else teacher.vocab_size
        shape = model_config(config.shape, vocab_size, config.context or teacher.max_position_embeddings)
        student = initialise(CausalLM(shape, dtype), run.seed, config.shape.embedding_std)
    run.metrics["num_parameters"] = sum(parameter.numel() for parameter in student.parameters())
    return student, tokenizer


def check_teacher(config: DistillConfig, inputs: Inputs, student: CausalLM, own: TextTokenizer, run: StageRun) -> None:
    """TrainingError if the teacher's distributions are wanted and are over other tokens than the student's.

    A teacher that is not asked may have other tokens: a note says at which level it is learnt from.
    """
    teacher, name = inputs["teacher"], inputs.get("model", inputs.get("tokenizer", inputs["teacher"])).name
    tokenizer, shape = TextTokenizer.load(teacher.path), load_model_config(teacher.path)
    asked = config.next_token_share < 1
    if tokenizer.fingerprint != own.fingerprint:
        sizes = f"{tokenizer.vocab_size} and {own.vocab_size} tokens"
        differ = f"teacher: {teacher.name} has another tokenizer than {name} ({sizes})"
        if asked:
            raise TrainingError(
                f"{differ}: its distributions are over other tokens than the student's",
                hint="learn from its words (sequence level): let it reply with `sample`, name the replies as "
                "`completions`, and set next_token_share: 1",
            )
        run.notes.append(f"{differ}: the student learns from words alone (sequence level)")
    elif asked and shape.vocab_size != student.config.vocab_size:
        raise TrainingError(
            f"teacher: {teacher.name} has an output head of {shape.vocab_size} rows, {name} one of "
            f"{student.config.vocab_size}: rows beyond the tokenizer's {own.vocab_size} tokens are not the same",
            hint="begin a student with `shape`, which takes the teacher's, or learn from words alone with "
            "next_token_share: 1",
        )


def context_of(config: DistillConfig, inputs: Inputs, student: CausalLM) -> int:
    """Tokens in a row: no more than the student, and the teacher if it is asked, were made for."""
    longest = {"the student": student.config.max_position_embeddings}
    if config.next_token_share < 1:
        longest[inputs["teacher"].name] = load_model_config(inputs["teacher"].path).max_position_embeddings
    name, most = min(longest.items(), key=lambda item: item[1])
    if config.context is not None and config.context > most:
        raise RecipeError(
            f"context: {config.context} tokens are more than the {most} that {name} was made for",
            hint=f"set context to {most} or less",
        )
    return config.context or most
