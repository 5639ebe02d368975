"""Exports: a model's folder gives the same bits, tokens and logits to whoever opens it."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tutelage.data.completions import prompt_ids
from tutelage.data.template import render
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import ArtifactError, DataError
from tutelage.model.heads import RewardModel
from tutelage.model.hub import load_causal_lm, load_reward_model, save_model
from tutelage.model.transformer import CausalLM
from tutelage.run.artifacts import ArtifactType
from tutelage.run.lineage import published
from tutelage.run.manifest import damage
from tutelage.verification.finding import Finding, finding, unchecked

PARITY = 1e-4  # of logits in float32: other libraries add the same numbers in another order
SAMPLES = (
    "The capital of France is Paris.",
    "naïve café, 数, \N{GRINNING FACE}\n\ttabs  and <|end|> as text",
)
CHAT = [{"role": "user", "content": "What is the capital of France?"}, {"role": "assistant", "content": "Paris."}]


def verify_export(run: Path) -> Iterator[Finding]:
    """Check every model and reward model of a run. Raises ArtifactError when it has none."""
    models = [
        (artifact.name, artifact.type, artifact.path, damage(run / name, manifest))
        for name, manifest in published(run).items()
        for artifact in (manifest.artifact(run / name, output) for output in manifest.artifacts)
        if artifact.type in (ArtifactType.MODEL, ArtifactType.REWARD_MODEL)
    ]
    if not models:
        raise ArtifactError(f"{run} has no model yet", hint=f"`tutelage status {run}` shows what is left to run")
    for name, type_, folder, problem in models:
        yield finding(name, "checksums", problem is None, problem or "as in the manifest")
        if problem is None:
            yield from _model(name, folder, type_ == ArtifactType.REWARD_MODEL)


def _model(name: str, folder: Path, scores: bool) -> Iterator[Finding]:
    model = load_reward_model(folder) if scores else load_causal_lm(folder)
    yield _same_bits(name, model, folder)
    tokenizer = TextTokenizer.load(folder)
    yield _round_trip(name, tokenizer)
    yield _template(name, tokenizer)
    if isinstance(model, CausalLM):
        ids = _sample_ids(tokenizer)
        with torch.no_grad():
            logits = model.eval()(torch.tensor([ids]))
        assert isinstance(logits, Tensor)
        finite = bool(torch.isfinite(logits).all())
        yield finding(name, "logits are finite", finite, f"{len(ids)} tokens, {logits.shape[-1]} logits each")
        yield _parity(name, folder, ids, logits)


def _same_bits(name: str, model: CausalLM | RewardModel, folder: Path) -> Finding:
    """Loaded and written again, the tensors and the configuration are those of the folder."""
    with tempfile.TemporaryDirectory() as place:
        again = Path(place)
        save_model(model, again)
        before = {
            key: tensor for file in sorted(folder.glob("*.safetensors")) for key, tensor in load_file(file).items()
        }
        after = load_file(again / "model.safetensors")
        same_config = (again / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    differing = [key for key in before if key not in after or not _bits_equal(before[key], after[key])]
    differing += [key for key in after if key not in before]
    detail = f"{len(before)} tensors and the configuration" if not differing else f"differing: {differing[0]}"
    return finding(name, "loads again to the same bits", not differing and same_config, detail)


def _bits_equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()


def _round_trip(name: str, tokenizer: TextTokenizer) -> Finding:
    with tempfile.TemporaryDirectory() as place:
        tokenizer.save(Path(place))
        again = TextTokenizer.load(Path(place))
    told = 0
    for text in SAMPLES:
        try:
            ids = tokenizer.encode(text)
        except DataError:
            continue  # an alphabet of characters cannot write every text, and says so
        told += 1
        if again.encode(text) != ids or tokenizer.decode(ids, skip_special_tokens=False) != text:
            return finding(name, "tokenizer round trip", False, f"{text!r} comes back otherwise")
    same = again.fingerprint == tokenizer.fingerprint
    return finding(name, "tokenizer round trip", same and told > 0, f"{told} texts, and the tokenizer written again")


def _template(name: str, tokenizer: TextTokenizer) -> Finding:
    if tokenizer.chat_template is None:
        return unchecked(name, "chat template", "the tokenizer has none")
    try:
        rendered = render(tokenizer, CHAT)
        asked = prompt_ids(tokenizer, CHAT[:1])
    except DataError as error:
        return finding(name, "chat template", False, error.message)
    trained = [token for token, learnt in zip(rendered.ids, rendered.loss_mask, strict=True) if learnt]
    ends = trained[-1:] == [tokenizer.end_of_turn_id]
    begins = rendered.ids[: len(asked)] == asked
    return finding(
        name, "chat template", ends and begins, "the prompt begins the conversation, the end of turn is learnt"
    )


def _sample_ids(tokenizer: TextTokenizer) -> list[int]:
    if tokenizer.chat_template is not None:
        try:
            return prompt_ids(tokenizer, CHAT[:1])
        except DataError:
            pass  # an alphabet of characters without these
    return [id_ for id_ in range(min(tokenizer.vocab_size, 32)) if id_ != tokenizer.pad_id]


def _parity(name: str, folder: Path, ids: list[int], logits: Tensor) -> Finding:
    claim = "logits as transformers computes them"
    if importlib.util.find_spec("transformers") is None:
        return unchecked(name, claim, "the package transformers is not installed")
    library = importlib.import_module("transformers")
    try:
        other = library.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            theirs = other(torch.tensor([ids])).logits.float()
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        return finding(name, claim, False, f"transformers {library.__version__} cannot open it: {error}")
    gap = float((logits - theirs).abs().max())
    return finding(name, claim, gap <= PARITY, f"largest difference {gap:.1e}; transformers {library.__version__}")
