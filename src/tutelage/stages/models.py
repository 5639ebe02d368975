"""What gradient stages share: opening and publishing models, and the precision of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tutelage.data.shards import read_manifest
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import TrainingError
from tutelage.model.heads import RewardModel
from tutelage.model.hub import load_causal_lm, save_model
from tutelage.model.lora import Adapter, adapter_of, add_adapter, merged, save_adapter
from tutelage.model.transformer import CausalLM
from tutelage.parallel.shard import whole_state
from tutelage.parallel.world import World
from tutelage.run.artifacts import Artifact
from tutelage.run.stage import Inputs, StageRun
from tutelage.training.precision import Precision, compute_dtype
from tutelage.training.settings import LoRASettings


def run_dtype(precision: Precision, run: StageRun, world: World | None = None) -> torch.dtype:
    """The dtype of this run's activations, measured by the main process; also sets the number of threads."""
    torch.set_num_threads(run.threads)
    if world is None or world.is_main:
        dtype = compute_dtype(precision, run.directory.parent)
    if world is not None:
        world.barrier()
        dtype = compute_dtype(precision, run.directory.parent)
    return dtype


def open_model(artifact: Artifact, dtype: torch.dtype) -> tuple[CausalLM, TextTokenizer]:
    """A model and the tokenizer in its folder."""
    return load_causal_lm(artifact.path, dtype), TextTokenizer.load(artifact.path)


def open_trainable(
    artifact: Artifact, dtype: torch.dtype, lora: LoRASettings | None, seed: int
) -> tuple[CausalLM, TextTokenizer]:
    """A model to be trained and its tokenizer; with `lora` only an adapter of it trains."""
    model, tokenizer = open_model(artifact, dtype)
    if lora is not None:
        add_adapter(model, Adapter(lora.rank, lora.alpha, lora.target_modules, artifact.name), seed)
    return model, tokenizer


def lengthen(model: CausalLM, context: int | None, notes: list[str]) -> int:
    """The tokens of a row; a model made for fewer is lengthened: rotary positions need no new weights."""
    longest = model.config.max_position_embeddings
    if context is not None and context > longest:
        model.config = replace(model.config, max_position_embeddings=context)
        notes.append(f"the context grows from {longest} to {context} tokens; what lies beyond {longest} is learnt here")
    return context or longest


def open_reference(inputs: Inputs, tokenizer: TextTokenizer, dtype: torch.dtype) -> CausalLM:
    """The frozen model that a policy is compared with: the input `reference`, or the model it starts from."""
    artifact = inputs.get("reference", inputs["model"])
    ref, own = open_model(artifact, dtype)
    if own.fingerprint != tokenizer.fingerprint:
        raise TrainingError(
            f"the reference {artifact.name} has another tokenizer than {inputs['model'].name} "
            f"({own.vocab_size} and {tokenizer.vocab_size} tokens): its log-probs are of other tokens",
            hint="name a reference of the same family, or leave `reference` out",
        )
    return ref.eval().requires_grad_(False)


def check_tokens(tokens: Artifact, tokenizer: TextTokenizer, owner: Artifact) -> None:
    """TrainingError unless the tokens were made with this tokenizer, which comes from `owner`."""
    if read_manifest(tokens.path)["tokenizer"] != tokenizer.fingerprint:
        raise TrainingError(
            f"{tokens.name} was not made with the tokenizer of {owner.name}: the numbers mean other text",
            hint="tokenize the corpus with the same tokenizer",
        )


def publish_model(
    model: CausalLM | RewardModel,
    tokenizer: TextTokenizer,
    folder: Path,
    world: World | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write weights, configuration, tokenizer and generation settings into one folder.

    An adapter is merged into the weights, and also written by itself into `adapter/`.
    """
    tensors = dict(whole_state(model) if state is None else state)
    if world is not None and not world.is_main:
        return
    adapter = adapter_of(model)
    if adapter is not None:
        save_adapter(tensors, adapter, folder / "adapter")
        tensors = merged(tensors, adapter)
    save_model(model, folder, tensors)
    tokenizer.save(folder)
    generation = {
        "eos_token_id": list(tokenizer.stop_ids),
        "pad_token_id": tokenizer.pad_id,
        "bos_token_id": tokenizer.bos_id,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
