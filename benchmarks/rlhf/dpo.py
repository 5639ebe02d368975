"""DPO pairs a second of our stage and of TRL's DPOTrainer: SmolLM2-135M, pairs of hh-rlhf, at most 256 tokens a side.

Both sides compute the reference's log-probs and count them, ours before the steps as the stage does. The pairs of a
step lie in the order of their lengths, so that the peer's micro-batches, which pad, pad little; ours packs.
Equal quality: both sides made the same steps from the same weights; their models are saved and judged by one piece of
code that is neither's, on pairs of the last step and on held-out ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import torch
import trl
from hh import as_text, pairs_file, read_pairs, same_tokens, save_smollm2
from sides import arguments, best_setting, clock, equal_or_exit, gaps, quickest_dtype, report, seconds
from torch import Tensor
from trainers import InTurn, Ours, optimizer, peer_arguments, quiet, turns, worth_trying
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from tutelage.data.completions import Completion, distinct_completions, sequence_logprobs
from tutelage.data.pairs import Pair
from tutelage.data.tokenizer import TextTokenizer
from tutelage.model.hub import load_causal_lm, save_model
from tutelage.model.transformer import CausalLM
from tutelage.objectives.preference import PreferenceSettings
from tutelage.stages.alignment.preference import Objective, PreferenceBatch, pair_step, preference_batch
from tutelage.training.source import IndexedSource

BETA = 0.1
RATE = optimizer(1e-5)
SETTINGS: dict[str, dict[str, Any]] = {
    "all pairs of a step at once": {},
    "all at once, reference beforehand": {"precompute_ref_log_probs": True},
    "half of them at once": {"pieces": 2},
    "a quarter at once": {"pieces": 4},
    "a quarter at once, reference beforehand": {"pieces": 4, "precompute_ref_log_probs": True},
    "all at once, bfloat16": {"bf16": True},
    "a quarter at once, bfloat16": {"pieces": 4, "bf16": True},
}


@dataclass(frozen=True)
class Work:
    """How much is done: pairs in a step and held out, and tokens a side."""

    name: str = "SmolLM2-135M"
    pairs_a_step: int = 8
    held_out: int = 16
    max_length: int = 256


class Peer(DPOTrainer):
    """TRL's trainer, with the time that it takes for reference log-probs before the first step."""

    before = 0.0

    def _precompute_ref_logps(self, *given: Any) -> Any:
        began = clock()
        found = super()._precompute_ref_logps(*given)
        self.before += clock() - began
        return found


def peer(work: Work, folder: Path, tokenizer: TextTokenizer, pairs: Sequence[Pair], setting: dict[str, Any]) -> Peer:
    setting = dict(setting)
    pieces = setting.pop("pieces", 1)
    config = DPOConfig(
        **peer_arguments(folder, RATE, max_steps=len(pairs) // work.pairs_a_step, **setting), beta=BETA,
        per_device_train_batch_size=work.pairs_a_step // pieces, gradient_accumulation_steps=pieces,
        max_length=work.max_length, train_sampling_strategy="sequential",
    )  # fmt: skip
    data = datasets.Dataset.from_list([as_text(pair, tokenizer) for pair in pairs])
    trainer = Peer(str(folder), args=config, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(folder))
    rows = [trainer.train_dataset[place] for place in range(len(pairs))]
    assert [row["prompt_ids"] + row["chosen_ids"] for row in rows] == [pair.chosen.ids for pair in pairs]
    assert [row["prompt_ids"] + row["rejected_ids"] for row in rows] == [pair.rejected.ids for pair in pairs]
    return quiet(trainer)


def seconds_a_step(watch: InTurn, before: float) -> float:
    """Of the peer, the reference included; the first step warms up."""
    return sum(watch.theirs[1:]) / len(watch.theirs[1:]) + before / len(watch.theirs)


def cost(work: Work, folder: Path, tokenizer: TextTokenizer, pairs: Sequence[Pair], setting: dict[str, Any]) -> float:
    trainer = peer(work, folder, tokenizer, pairs[: 2 * work.pairs_a_step], setting)
    return seconds_a_step(turns(trainer), trainer.before)


def reference_of(model: CausalLM, pairs: Sequence[Pair], pad_id: int) -> Tensor:
    """Log-probs [B, 2] as the stage computes them, each distinct completion once."""
    distinct, numbers = distinct_completions([one for pair in pairs for one in (pair.chosen, pair.rejected)])
    return sequence_logprobs(model, distinct, pad_id)[numbers].view(-1, 2)


def ours(
    work: Work, model: CausalLM, reference_B2: Tensor, pairs: Sequence[Pair], pad_id: int
) -> Ours[PreferenceBatch]:
    a_step = work.pairs_a_step

    def make(number: int) -> list[PreferenceBatch]:
        part = slice(number * a_step, (number + 1) * a_step)
        return [preference_batch(pairs[part], reference_B2[part], pad_id)]

    step = pair_step(Objective("sigmoid", PreferenceSettings(BETA)))
    return Ours(model, IndexedSource(len(pairs) // a_step, make), step, RATE)


def in_steps(pairs: Sequence[Pair], a_step: int) -> list[Pair]:
    """The pairs of each step in the order of their lengths."""
    parts = [pairs[start : start + a_step] for start in range(0, len(pairs), a_step)]
    return [pair for part in parts for pair in sorted(part, key=longer)]


def longer(pair: Pair) -> int:
    return max(len(pair.chosen.ids), len(pair.rejected.ids))


def chosen_pairs(work: Work, folder: Path, tokenizer: TextTokenizer, path: Path, count: int) -> list[Pair]:
    """The first `count` pairs that fit and are the same tokens to both sides."""
    peer_tokenizer, found = AutoTokenizer.from_pretrained(folder), []
    for pair in read_pairs(path, tokenizer, work.max_length):
        if same_tokens(pair, tokenizer, peer_tokenizer):
            found.append(pair)
        if len(found) == count:
            return found
    raise SystemExit(f"{path} has {len(found)} pairs of at most {work.max_length} tokens a side; {count} are needed")


@torch.no_grad()
def judged(folder: Path, reference: Path, pairs: Sequence[Pair]) -> dict[str, float]:
    """DPO loss and margin of pairs by forwards of transformers, a sequence at a time: the code of neither side."""
    nets = [AutoModelForCausalLM.from_pretrained(path).eval() for path in (folder, reference)]

    def log_ratio(one: Completion) -> Tensor:
        ids = torch.tensor([one.ids])
        policy, ref = (
            net(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[one.num_prompt - 1 :].sum()
            for net in nets
        )
        return policy - ref

    margins = torch.stack([BETA * (log_ratio(pair.chosen) - log_ratio(pair.rejected)) for pair in pairs])
    return {"loss": float(-torch.nn.functional.logsigmoid(margins).mean()), "margin": float(margins.mean())}


def apart(mine: Path, theirs: Path, reference: Path, parts: dict[str, Sequence[Pair]]) -> dict[str, float]:
    """How far the losses of the two models are apart; a loss that stayed at ln 2 would show nothing, so it is told."""
    losses: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for name, pairs in parts.items():
        for found, folder in zip(losses, (mine, theirs), strict=True):
            one = judged(folder, reference, pairs)
            found[f"loss of {name} pairs"] = one["loss"]
            print(f"  {folder.name}, {name} pairs: margin {one['margin']:+.4f}, "
                  f"loss {one['loss'] - math.log(2):+.4f} from ln 2", flush=True)  # fmt: skip
    return gaps(*losses)


def main() -> None:
    chosen = arguments(__doc__)
    path = pairs_file()
    if path is None:
        return
    datasets.disable_caching()  # or reference log-probs of one trainer would be read by the next
    work = Work("quick, SmolLM2-135M", 2, 2, 80) if chosen.quick else Work()
    with TemporaryDirectory() as temporary:
        base = Path(temporary) / "base"
        tokenizer = save_smollm2(base)
        trained = (chosen.rounds + 1) * work.pairs_a_step
        found = chosen_pairs(work, base, tokenizer, path, trained + work.held_out)
        pairs, held_out = in_steps(found[:trained], work.pairs_a_step), found[trained:]
        best = best_setting(
            {name: partial(cost, work, base, tokenizer, pairs, setting)
             for name, setting in worth_trying(SETTINGS, chosen.quick).items()},
            cost=lambda run: float(run()),
        )  # fmt: skip
        model, references = load_causal_lm(base, quickest_dtype()), []
        before = seconds(lambda: references.append(reference_of(model, pairs, tokenizer.pad_id)))
        trainer = peer(work, base, tokenizer, pairs, SETTINGS[best])
        watch = turns(trainer, ours(work, model, references[0], pairs, tokenizer.pad_id))
        trainer.save_model(str(Path(temporary) / "theirs"))
        (Path(temporary) / "ours").mkdir()
        save_model(model, Path(temporary) / "ours")
        agreed = apart(Path(temporary) / "ours", Path(temporary) / "theirs", base,
                       {"held-out": held_out, "last": pairs[-work.pairs_a_step :]})  # fmt: skip
    mine = sum(watch.mine[1:]) / chosen.rounds + before / len(watch.mine)
    report(f"DPO, {work.name}, hh pairs, length {work.max_length}", f"TRL {trl.__version__} DPOTrainer", best,
           work.pairs_a_step / mine, work.pairs_a_step / seconds_a_step(watch, trainer.before), "pairs/s", 2.0,
           apart=agreed, precision=str(model.compute_dtype))  # fmt: skip
    equal_or_exit(agreed)


if __name__ == "__main__":
    main()
