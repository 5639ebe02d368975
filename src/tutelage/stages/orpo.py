"""Odds ratio preference optimisation (Hong et al., arXiv 2403.07691): fine-tuning and preferences in one loss."""

from __future__ import annotations

from tutelage.objectives.preference import PreferenceSettings
from tutelage.run.stage import Inputs, StageRun
from tutelage.stages.alignment.preference import Objective, train_on_pairs
from tutelage.stages.configs import ORPOConfig


def run(config: ORPOConfig, inputs: Inputs, run: StageRun) -> None:
    """Fine-tune on the chosen replies, away from the rejected ones, without a reference."""
    train_on_pairs(config, inputs, run, Objective("orpo", PreferenceSettings(config.beta)))
