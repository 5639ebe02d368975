"""A teacher's distributions over the next token, asked for once and kept on disk.

They are kept in `teacher.cache` of the run folder, for all its stages: a file for every few hundred texts, named after
the teacher's checksum, how it was asked, and the tokens. So a cache that was cut short is gone on with, and another
epoch, order or stage finds what it needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tutelage.data.batches import Batch
from tutelage.data.packing import pack, runs
from tutelage.data.passages import Passages
from tutelage.model.top_logprobs import Tops, linear_tops
from tutelage.model.transformer import CausalLM
from tutelage.parallel.world import World
from tutelage.run.stage import Inputs, StageRun
from tutelage.sources.store import atomic
from tutelage.stages.distillation.settings import DistillConfig
from tutelage.stages.models import open_model

PART_TOKENS = 1 << 16  # of texts in one file
FORWARD_TOKENS = 1 << 14
CACHE = "teacher.cache"
TOO_MUCH_LEFT = 0.05


@dataclass(frozen=True)
class Teacher:
    """A frozen model, opened when it is first asked, and how much of its distributions is wanted."""

    open: Callable[[], CausalLM]
    fingerprint: str
    dtype: torch.dtype
    top_k: int
    temperature: float

    @torch.no_grad()
    def tops(self, rows: Batch) -> Tops:
        """What it expects at the targets of these rows, (N,), row after row."""
        model = self.open()
        hidden_BTD = model.hidden(rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT)
        k = min(self.top_k, model.config.vocab_size)
        return linear_tops(hidden_BTD[rows.targets_BT >= 0], model.lm_head.weight, k, self.temperature)

    def key(self, texts: Passages, part: range, context: int) -> str:
        """A name for what it expects of these texts, laid into rows of `context` tokens (which changes last bits)."""
        how = f"{self.fingerprint} {self.dtype} {self.top_k} {self.temperature} {context}"
        key = hashlib.sha256(how.encode())
        for index in part:
            ids, mask = texts.ids[index], texts.loss_masks[index]
            key.update(len(ids).to_bytes(8, "little") + ids.astype("<i8").tobytes() + mask.tobytes())
        return key.hexdigest()[:32]


def open_teacher(config: DistillConfig, inputs: Inputs, dtype: torch.dtype) -> Teacher:
    """The teacher of a stage; its weights are read when it is first asked."""

    @cache
    def opened() -> CausalLM:
        return open_model(inputs["teacher"], dtype)[0].eval().requires_grad_(False)

    return Teacher(opened, inputs["teacher"].fingerprint, dtype, config.top_k, config.temperature)


@dataclass(frozen=True)
class KnownTops:
    """A teacher's distributions by the numbers of the tokens (see `Passages`), in parts."""

    bounds: Tensor  # the number that each part begins with, and the end
    parts: Sequence[Tops]

    def at(self, numbers_N: Tensor) -> Tops:
        """Those of the tokens with these numbers, in this order."""
        whose_N = torch.searchsorted(self.bounds, numbers_N, right=True) - 1
        order = whose_N.argsort(stable=True)
        found = [
            tuple(field[numbers_N[whose_N == part] - self.bounds[part]] for field in self.parts[part])
            for part in sorted(set(whose_N.tolist()))
        ]
        if not found:
            return Tops(*(field[:0] for field in self.parts[0]))
        back = order.argsort()
        return Tops(*(torch.cat(fields)[back] for fields in zip(*found, strict=True)))


def known_tops(teacher: Teacher, texts: Passages, context: int, pad_id: int, run: StageRun, world: World) -> KnownTops:
    """What the teacher expects of all learnt tokens: from the cache, or asked for now, by the main process."""
    parts = runs(texts.lengths, PART_TOKENS)
    folder = run.directory.parent / CACHE
    paths = [folder / f"{teacher.key(texts, part, context)}.safetensors" for part in parts]
    if world.is_main:
        with run.progress("teacher", len(texts)) as bar:
            for part, path in zip(parts, paths, strict=True):
                if not path.exists():
                    _keep(path, _ask(teacher, texts, part, context, pad_id))
                bar.advance(len(part))
    world.barrier()
    bounds = [texts.firsts[part.start] for part in parts] + [texts.firsts[-1]]
    known = KnownTops(torch.tensor(bounds), [Tops(**load_file(path)) for path in paths])
    _tell(known, run)
    return known


def _tell(known: KnownTops, run: StageRun) -> None:
    """Metric `teacher/rest_mass`: what the teacher gives tokens that are not among its likeliest k, a mean."""
    if not known.parts:
        return
    rest = float(torch.cat([part.rests_N for part in known.parts]).double().exp().mean())
    run.metrics["teacher/rest_mass"] = max(rest, run.metrics.get("teacher/rest_mass", 0.0))
    if rest > TOO_MUCH_LEFT:
        k = known.parts[0].tokens_NK.shape[1]
        run.notes.append(
            f"{rest:.0%} of the teacher's probability is on tokens beyond its likeliest {k}, which the student learns "
            "as one: raise top_k"
        )


def _keep(path: Path, tops: Tops) -> None:
    with atomic(path) as beside:
        save_file({name: field.contiguous() for name, field in tops._asdict().items()}, beside)


def _ask(teacher: Teacher, texts: Passages, part: range, context: int, pad_id: int) -> Tops:
    """Of one part of the texts, in the order of its tokens."""
    plan = [[part[place] for place in row] for row in pack([texts.lengths[index] for index in part], context)]
    found, numbers = [], []
    rows = max(1, FORWARD_TOKENS // context)
    for start in range(0, len(plan), rows):
        laid = texts.lay(plan[start : start + rows], context, pad_id)
        found.append(teacher.tops(laid.rows))
        numbers.append(laid.numbers_N)
    order = torch.cat(numbers).argsort()
    return Tops(*(torch.cat(fields)[order] for fields in zip(*found, strict=True)))
