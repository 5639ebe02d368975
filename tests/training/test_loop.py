from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tiny import Interrupter, config, flat, model, stage_run
from tutelage.data.batches import Batch, make_batch
from tutelage.data.packing import lay_rows
from tutelage.errors import ArtifactError, TrainingError
from tutelage.model.heads import PolicyWithValue, RewardModel
from tutelage.objectives.types import LossOutput
from tutelage.parallel.world import World
from tutelage.run.journal import read_journal
from tutelage.stages.pretrain import next_token_step
from tutelage.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from tutelage.training.loop import Loop, fit
from tutelage.training.optim import build_optimizers
from tutelage.training.settings import LoopSettings, OptimizerSettings
from tutelage.training.source import IndexedSource, epoch_positions

ADAMW = OptimizerSettings(learning_rate=0.003, weight_decay=0.1)
MUON = OptimizerSettings(kind="muon", learning_rate=0.003, muon_learning_rate=0.01)
OFTEN = LoopSettings(checkpoint_seconds=0, evaluate_every=2)


def sequences(step: int) -> list[list[int]]:
    random = torch.Generator().manual_seed(step)
    lengths = torch.randint(2, 12, (8,), generator=random).tolist()
    return [torch.randint(4, 300, (length,), generator=random).tolist() for length in lengths]


def micro_batches(step: int, rows_each: int) -> list[Batch]:
    texts = sequences(step)
    parts = [texts[start : start + rows_each] for start in range(0, 8, rows_each)]
    return [make_batch(lay_rows(part, [[i] for i in range(len(part))], 14, 0)) for part in parts]


def source(rows_each: int = 4, num_steps: int = 6) -> IndexedSource[Batch]:
    return IndexedSource(num_steps, lambda step: micro_batches(step, rows_each))


def train(net: nn.Module, folder: Path, steps: IndexedSource[Batch], settings: OptimizerSettings = ADAMW) -> nn.Module:
    fit(net, steps, next_token_step, settings, OFTEN, stage_run(folder))
    return net


def test_how_a_step_is_cut_into_micro_batches_never_changes_the_weights(tmp_path: Path) -> None:
    trained = [flat(train(model(), tmp_path / str(each), source(each))) for each in (8, 4, 1)]
    start = flat(model())
    for other in trained[1:]:
        assert (trained[0] - other).norm() < 1e-4 * (trained[0] - start).norm()
    first, *others = ([row["train/loss"] for row in read_journal(tmp_path / f"{each}.jsonl")] for each in (8, 4, 1))
    for losses in others:
        assert losses == pytest.approx(first, rel=1e-5)


def without_targets(batch: Batch) -> Batch:
    return replace(batch, targets_BT=torch.full_like(batch.targets_BT, -100))


def test_a_micro_batch_with_nothing_to_learn_changes_nothing(tmp_path: Path) -> None:
    plain = train(model(), tmp_path / "plain", source())
    steps = IndexedSource(6, lambda step: [without_targets(micro_batches(9, 8)[0]), *micro_batches(step, 4)])
    padded = train(model(), tmp_path / "padded", steps)
    assert_close(flat(padded), flat(plain), rtol=1e-6, atol=1e-7)
    losses = [[row["train/loss"] for row in read_journal(tmp_path / f"{n}.jsonl")] for n in ("plain", "padded")]
    assert losses[0] == pytest.approx(losses[1])


def test_a_step_with_nothing_to_learn_is_not_nan(tmp_path: Path) -> None:
    net = model()
    train(net, tmp_path / "run", IndexedSource(2, lambda step: [without_targets(b) for b in micro_batches(0, 4)]))
    assert_close(flat(net), flat(model()), rtol=0.01, atol=1e-6)  # weight decay alone moves it


class Breaking:
    """Next-token loss that is NaN from call number `at` on."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def __call__(self, net: nn.Module, batch: Batch) -> LossOutput:
        output = next_token_step(net, batch)
        self.calls += 1
        return replace(output, loss_sum=output.loss_sum * float("nan")) if self.calls > self.at else output


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_spoiled(tmp_path: Path) -> None:
    net, run = model(), stage_run(tmp_path / "run")
    with pytest.raises(TrainingError, match="loss is nan at step 3, micro-batch 1") as caught:
        fit(net, source(), Breaking(at=7), ADAMW, OFTEN, run)
    assert "checkpoint-000000003" in caught.value.hint
    good = train(model(), tmp_path / "good", source(num_steps=6))
    kept = latest_checkpoint(run.scratch)
    assert kept is not None
    again = model()
    assert load_checkpoint(kept, again, build_optimizers(again, ADAMW))[0] == 3
    assert torch.equal(flat(again), flat(net))  # what is in memory is what step 3 left
    assert flat(net).isfinite().all()
    train(net := model(), tmp_path / "run", source())  # after the cause is mended, it goes on from there
    assert torch.equal(flat(net), flat(good))


def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    class Explode(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * float("inf")

    def step(net: nn.Module, batch: Batch) -> LossOutput:
        output = next_token_step(net, batch)
        return replace(output, loss_sum=Explode.apply(output.loss_sum))

    net = model()
    with pytest.raises(TrainingError, match=r"gradient norm is (inf|nan) at step 0"):
        fit(net, source(), step, ADAMW, OFTEN, stage_run(tmp_path / "run"))
    assert torch.equal(flat(net), flat(model()))


@pytest.mark.parametrize("settings", [ADAMW, MUON], ids=["adamw", "muon"])
def test_resume_after_an_interruption_at_every_step_is_bit_for_bit(tmp_path: Path, settings: OptimizerSettings) -> None:
    whole = train(model(), tmp_path / "whole", source(), settings)
    for stop in range(1, 7):
        folder = tmp_path / f"stop-{stop}"
        with pytest.raises(KeyboardInterrupt):
            fit(model(), source(), next_token_step, settings, OFTEN, stage_run(folder, Interrupter(stop, "x")),
                description="x")  # fmt: skip
        # other weights at first, if there is a checkpoint: all must come from the file
        net = train(model(seed=0 if stop == 1 else 5), folder, source(), settings)
        assert torch.equal(flat(net), flat(whole)), f"interrupted at step {stop}"
        rows, expected = read_journal(tmp_path / f"{folder.name}.jsonl"), read_journal(tmp_path / "whole.jsonl")
        assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
        assert [row["train/loss"] for row in rows] == [row["train/loss"] for row in expected]


def test_a_torn_journal_line_is_mended_on_resume(tmp_path: Path) -> None:
    run = stage_run(tmp_path / "run", Interrupter(4, "x"))
    with pytest.raises(KeyboardInterrupt):
        fit(model(), source(), next_token_step, ADAMW, OFTEN, run, description="x")
    with run.journal.path.open("a") as file:
        file.write('{"step": 5, "ti')
    train(model(), tmp_path / "run", source())
    rows = [json.loads(line) for line in run.journal.path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_starts_anew_clears_an_old_journal(tmp_path: Path) -> None:
    run = stage_run(tmp_path / "run")
    run.journal.log(3, {"train/loss": 1.0})
    train(model(), tmp_path / "run", source(num_steps=2))
    assert [row["step"] for row in read_journal(run.journal.path)] == [1, 2]


def test_checkpoints_hold_the_random_state_and_only_the_newest_stays(tmp_path: Path) -> None:
    net = model()
    optimizers = build_optimizers(net, ADAMW)
    torch.manual_seed(3)
    for step in (1, 2, 10):
        path = save_checkpoint(tmp_path, step, net, optimizers, {"kl": 0.5, "seen": torch.arange(3)}, World())
    drawn = torch.rand(4)
    assert [p.name for p in tmp_path.iterdir()] == [path.name] == ["checkpoint-000000010"]
    step, state = load_checkpoint(path, net, optimizers)
    assert (step, state["kl"], state["seen"].tolist()) == (10, 0.5, [0, 1, 2])
    assert torch.equal(torch.rand(4), drawn)


def test_a_kill_while_writing_leaves_the_older_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = model()
    save_checkpoint(tmp_path, 1, net, [], {}, World())

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tutelage.training.checkpoint.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, 2, net, [], {}, World())
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert load_checkpoint(found, net, [])[0] == 1


def test_a_damaged_or_foreign_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, model(), [], {}, World())
    with pytest.raises(ArtifactError, match="cannot be resumed from"):
        load_checkpoint(path, model(hidden_size=24), [])
    (path / "state.safetensors").write_bytes(b"short")
    with pytest.raises(ArtifactError) as caught:
        load_checkpoint(path, model(), [])
    assert "afresh" in caught.value.hint


def test_a_checkpoint_of_another_version_says_what_to_do(tmp_path: Path) -> None:
    class Positioned(IndexedSource[Batch]):
        def load_state_dict(self, state: Mapping[str, Any]) -> None:
            self.position = state["position"]

    run = stage_run(tmp_path / "run")
    net = model()
    save_checkpoint(run.scratch, 1, net, build_optimizers(net, ADAMW), {}, World())
    with pytest.raises(ArtifactError, match="is of another version: KeyError") as caught:
        fit(net, Positioned(6, lambda step: micro_batches(step, 4)), next_token_step, ADAMW, OFTEN, run)
    assert str(run.scratch) in caught.value.hint


def test_weights_of_rows_are_relative() -> None:
    def weighing(weight: float) -> tuple[list[Tensor], float]:
        def step(net: nn.Module, batch: Batch) -> LossOutput:
            output = next_token_step(net, batch)
            return replace(output, loss_sum=output.loss_sum * weight, count=output.count * weight)

        net = model()
        metrics = Loop(net, build_optimizers(net, ADAMW), ADAMW, 4, World()).step(0, micro_batches(0, 4), step)
        return [parameter.detach() for parameter in net.parameters()], metrics["grad_norm"]

    (light, small), (plain, norm) = weighing(1e-4), weighing(1.0)
    assert small == pytest.approx(norm, rel=1e-4)
    assert_close(light, plain, rtol=1e-3, atol=1e-5)


def step_with(max_norm: float) -> tuple[list[Tensor], float]:
    net = model()
    settings = ADAMW.model_copy(update={"max_grad_norm": max_norm})
    loop = Loop(net, [], settings, 4, World())
    batch = micro_batches(0, 8)[0]
    next_token_step(net, batch).loss_sum.backward()  # type: ignore[no-untyped-call]
    norm = loop._normalise(torch.tensor(float(batch.num_targets)))
    return [p.grad for p in net.parameters() if p.grad is not None], norm


def test_clipping_scales_the_whole_gradient_and_reports_the_norm_before() -> None:
    free, norm = step_with(1e9)
    assert float(torch.cat([g.flatten() for g in free]).norm()) == pytest.approx(norm)
    clipped, same = step_with(norm / 4)
    assert same == pytest.approx(norm)
    for before, after in zip(free, clipped, strict=True):
        assert_close(after, before / 4)


@pytest.mark.parametrize("settings", [ADAMW, MUON], ids=["adamw", "muon"])
def test_every_trainable_parameter_is_in_exactly_one_group(settings: OptimizerSettings) -> None:
    nets = [model(), model(tie_word_embeddings=True), RewardModel(config()), PolicyWithValue(model(model_type="qwen2"))]
    for net in nets:
        optimizers = build_optimizers(net, settings)
        chosen = [id(p) for opt in optimizers for group in opt.param_groups for p in group["params"]]
        assert len(chosen) == len(set(chosen))
        assert set(chosen) == {id(p) for p in net.parameters() if p.requires_grad}
        if settings.kind == "muon":
            names = {id(p): name for name, p in net.named_parameters()}
            muon = [names[id(p)] for group in optimizers[-1].param_groups for p in group["params"]]
            assert all(".layers." in name and name.endswith("proj.weight") for name in muon)
        undecayed = [p for opt in optimizers for g in opt.param_groups if not g["weight_decay"] for p in g["params"]]
        if settings.weight_decay:
            assert all(p.ndim != 2 for p in undecayed)


def test_micro_batches_are_dealt_to_ranks_evenly_and_counted_once() -> None:
    for size in (1, 2, 3, 5):
        for count in range(1, 8):
            dealt = [World(rank, size).share(list(range(count))) for rank in range(size)]
            assert len({len(part) for part in dealt}) == 1
            counted = sorted(item for part in dealt for item, counts in part if counts)
            assert counted == list(range(count))


class TwoRanks(World):
    """What rank 0 of two sees when the other rank's loss is not a number."""

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor + torch.tensor([0.0, float("nan")]) if tensor.shape == (2,) else 2 * tensor


def test_all_ranks_stop_at_the_bad_batch_of_one() -> None:
    loop = Loop(model(), [], ADAMW, 4, TwoRanks(0, 2))
    with pytest.raises(TrainingError, match="loss is nan at step 2, micro-batch 1"):
        loop.step(2, micro_batches(0, 2), next_token_step)


def test_epochs_are_permutations_and_positions_do_not_depend_on_how_they_are_asked_for() -> None:
    whole = epoch_positions(0, 35, 10, seed=4)
    pieces: Sequence[int] = [p for start in range(0, 35, 5) for p in epoch_positions(start, 5, 10, seed=4)]
    assert whole == pieces
    assert all(sorted(whole[start : start + 10]) == list(range(10)) for start in (0, 10, 20))
    assert whole[:10] != whole[10:20]
    assert epoch_positions(0, 10, 10, seed=5) != whole[:10]
