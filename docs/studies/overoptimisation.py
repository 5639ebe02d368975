"""Reward over-optimisation (Gao et al., arXiv 2210.10760) with a gold score that is known.

    .venv/bin/python docs/studies/overoptimisation.py

Reward models are trained on N noisy pairs of the reference's replies, then optimised in two ways: the best of n
replies, and PPO without a KL term. Proxy and gold are followed against √KL from the reference. Takes some minutes; the
same seeds give the same curves. Writes docs/studies/overoptimisation.json and two pictures into
docs/images.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from plot import Series, plot
from torch import Tensor, nn
from toy import START, T, ToyPairs, gold, in_order, mean, reference_policy, scores, train_reward_model, uniform_replies

from tutelage.data.batches import Batch
from tutelage.generation.engine import Engine
from tutelage.generation.rollout import roll_out
from tutelage.generation.sampling import Sampling
from tutelage.model.heads import PolicyWithValue, RewardModel
from tutelage.objectives.advantages import gae, token_rewards
from tutelage.objectives.masked import masked_whiten
from tutelage.objectives.policy import policy_loss, ppo_loss, value_loss
from tutelage.objectives.types import LossOutput
from tutelage.parallel.world import World
from tutelage.training.loop import Loop
from tutelage.training.optim import build_optimizers
from tutelage.training.settings import OptimizerSettings

DOCS = Path(__file__).resolve().parents[1]
SIZES = {50: 75, 500: 150, 5000: 800}  # pairs → steps of the reward model at most
SHARPNESS = 1.0  # of the annotator: P(first wins) = σ(SHARPNESS · (gold − gold'), gold in units of its deviation)
ROLLOUTS = 128
Point = tuple[float, float]


class Scale(NamedTuple):
    """Brings scores to mean 0 and deviation 1 on the reference's replies."""

    mean: float
    std: float

    @classmethod
    def of(cls, values_N: Tensor) -> Scale:
        """From the scores of the reference's replies."""
        return cls(float(values_N.mean()), float(values_N.std()))

    def __call__(self, values_N: Tensor) -> Tensor:
        """The scaled scores, (N,)."""
        return (values_N - self.mean) / self.std


def noisy_pairs(count: int, scale: Scale, generator: torch.Generator) -> ToyPairs:
    """Pairs of the reference's replies, labelled by Bradley–Terry of the gold score."""
    first, second = uniform_replies(count, generator), uniform_replies(count, generator)
    difference = scale(gold(first)) - scale(gold(second))
    wins = torch.rand(count, generator=generator) < torch.sigmoid(SHARPNESS * difference)
    return in_order(first, second, wins, wins == (difference > 0))


def best_of_n(proxy_M: Tensor, gold_M: Tensor, n: int) -> tuple[float, float]:
    """Mean proxy and gold of the reply that the proxy likes best among n, over all subsets of the M replies.

    The i-th best is taken with probability C(M − i, n − 1) / C(M, n) (2210.10760, appendix; unbiased).
    """
    order = proxy_M.argsort(descending=True)
    M = len(order)
    rank = torch.arange(1, M + 1, dtype=torch.float64)
    left = torch.lgamma((M - rank + 1).clamp(min=1)) - torch.lgamma((M - rank - n + 2).clamp(min=1))
    log_weight = left - math.lgamma(n) - (math.lgamma(M + 1) - math.lgamma(n + 1) - math.lgamma(M - n + 1))
    weight = torch.where(M - rank >= n - 1, log_weight, -torch.inf).exp()
    return float((weight * proxy_M[order]).sum()), float((weight * gold_M[order]).sum())


def kl_of_best_of(n: int) -> float:
    """KL(best of n ‖ reference) = ln n − (n − 1)/n (2009.01325), in nats."""
    return math.log(n) - (n - 1) / n


class RolloutBatch(NamedTuple):
    """One on-policy batch with what the update needs, [B, T]."""

    rows: Batch
    old_logprobs: Tensor
    advantages: Tensor
    returns: Tensor
    old_values: Tensor


def ppo_step(model: nn.Module, batch: RolloutBatch) -> LossOutput:
    """Clipped policy and value losses."""
    logprobs, _, values = model(*fields(batch.rows), 1.0)
    mask = batch.rows.targets_BT >= 0
    actor = policy_loss(logprobs, batch.old_logprobs, batch.advantages, mask)
    critic = value_loss(values, batch.old_values, batch.returns, mask)
    return ppo_loss(actor, critic, logprobs, value_coef=0.5)


def fields(rows: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a policy with a critic takes."""
    return rows.input_ids_BT, rows.position_ids_BT, rows.segment_ids_BT, rows.targets_BT


def optimise(
    proxy: RewardModel, proxy_scale: Scale, gold_scale: Scale, num_batches: int, seed: int
) -> list[list[float]]:
    """PPO on the proxy without a KL term: [√KL, proxy, gold] of every rollout batch."""
    model, ref = PolicyWithValue(reference_policy(seed), seed), reference_policy(seed)
    settings = OptimizerSettings(learning_rate=2e-3, warmup_share=0.02, decay_share=0.0)
    loop = Loop(model, build_optimizers(model, settings), settings, 2 * num_batches, World())
    curve = []
    for number in range(num_batches):
        engine = Engine(model.policy, [], START, ROLLOUTS)
        seeds = [(seed * num_batches + number) * ROLLOUTS + row for row in range(ROLLOUTS)]
        rows = roll_out(engine, [[START]] * ROLLOUTS, Sampling(T), seeds).rows
        replies, mask = rows.input_ids_BT[:, 1:], rows.targets_BT >= 0
        with torch.no_grad():
            logprobs, _, values = model(*fields(rows), 1.0)
            ref_logprobs = ref(*fields(rows)[:3], targets_BT=rows.targets_BT).logprobs
            rewards = proxy_scale(scores(proxy, replies))
        kl = logprobs - ref_logprobs
        curve.append([max(float(kl[mask].sum()) / ROLLOUTS, 0.0) ** 0.5, float(rewards.mean()),
                      float(gold_scale(gold(replies)).mean())])  # fmt: skip
        advantages, returns = gae(token_rewards(rewards, kl, mask, 0.0), values, mask)
        batch = RolloutBatch(rows, logprobs, masked_whiten(advantages, mask), returns, values)
        for _ in range(2):
            loop.step(2 * number, [batch], ppo_step)
    return curve


def study(num_pairs: int, seed: int, num_batches: int) -> dict[str, Any]:
    """One reward model and both ways of optimising it."""
    generator = torch.Generator().manual_seed(1000 * seed + num_pairs)
    replies = uniform_replies(20_000, generator)
    gold_scale = Scale.of(gold(replies))
    train = noisy_pairs(num_pairs, gold_scale, generator)
    held_out = noisy_pairs(max(50, num_pairs // 5), gold_scale, generator)
    proxy = train_reward_model(train, held_out, num_steps=SIZES[num_pairs], seed=seed)
    proxy_M = scores(proxy, replies)
    proxy_scale = Scale.of(proxy_M)
    gold_M, proxy_M = gold_scale(gold(replies)), proxy_scale(proxy_M)
    sizes = [round(2 ** (power / 2)) for power in range(25)]
    return {
        "num_pairs": num_pairs,
        "seed": seed,
        "correlation": float(torch.corrcoef(torch.stack([proxy_M, gold_M]))[0, 1]),
        "best_of_n": [
            [n, math.sqrt(kl_of_best_of(n)), *best_of_n(proxy_M.double(), gold_M.double(), n)] for n in sizes
        ],
        "ppo": optimise(proxy, proxy_scale, gold_scale, num_batches, seed),
    }


def average(rows: list[dict[str, Any]], key: str, columns: tuple[int, int, int]) -> list[list[float]]:
    """The curves of several seeds averaged point by point: [√KL, proxy, gold]."""
    curves = [[[point[column] for column in columns] for point in row[key]] for row in rows]
    return [[mean([point[axis] for point in points]) for axis in range(3)] for points in zip(*curves, strict=True)]


def smooth(curve: list[list[float]], reach: int = 3) -> list[list[float]]:
    """A centred mean over up to 2·reach + 1 batches."""
    windows = [curve[max(0, i - min(reach, i)) : i + min(reach, i) + 1] for i in range(len(curve))]
    return [[mean([point[axis] for point in window]) for axis in range(3)] for window in windows]


def draw(rows: list[dict[str, Any]]) -> None:
    """One picture a way of optimising: proxy dashed, gold solid, a colour for each N."""
    ways = (("best_of_n", (1, 2, 3), "best-of-n", "Best of n"), ("ppo", (0, 1, 2), "ppo", "PPO without a KL term"))
    for key, columns, name, title in ways:
        series = []
        for place, num_pairs in enumerate(SIZES):
            curve = average([row for row in rows if row["num_pairs"] == num_pairs], key, columns)
            curve = sorted(smooth(curve)) if key == "ppo" else curve
            series.append(Series(f"gold, N={num_pairs}", [(x, g) for x, _, g in curve], place))
            series.append(Series(f"proxy, N={num_pairs}", [(x, p) for x, p, _ in curve], place, dashed=True))
        picture = plot(title, "√KL(π ‖ reference), KL in nats a reply", "score, deviations of the reference", series)
        (DOCS / "images" / f"overoptimisation-{name}.svg").write_text(picture, encoding="utf-8")


def main() -> None:
    """Run all sizes and seeds, write the points as they come, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--draw-only", action="store_true", help="draw the points that are there")
    chosen = parser.parse_args()
    points = DOCS / "studies" / "overoptimisation.json"
    if chosen.draw_only:
        draw(json.loads(points.read_text(encoding="utf-8")))
        return
    rows = []
    for seed in range(chosen.seeds):
        for num_pairs in SIZES:
            row = study(num_pairs, seed, chosen.batches)
            row = json.loads(json.dumps(row), parse_float=lambda text: round(float(text), 4))
            rows.append(row)
            points.write_text("[\n" + ",\n".join(json.dumps(one) for one in rows) + "\n]\n", encoding="utf-8")
            curve = row["ppo"]
            top = max(curve, key=lambda point: point[2])
            print(
                num_pairs,
                seed,
                f"correlation {row['correlation']:.2f}, gold peaks at {top}, ends {curve[-1]}",
                flush=True,
            )
    draw(rows)


if __name__ == "__main__":
    main()
