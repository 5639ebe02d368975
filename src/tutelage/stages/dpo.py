"""Direct preference optimisation (Rafailov et al., arXiv 2305.18290) and its family: the loss is chosen by name."""

from __future__ import annotations

from tutelage.objectives.preference import PreferenceSettings
from tutelage.run.stage import Inputs, StageRun
from tutelage.stages.alignment.preference import Objective, train_on_pairs
from tutelage.stages.configs import DPOConfig


def run(config: DPOConfig, inputs: Inputs, run: StageRun) -> None:
    """Train a policy directly on preference pairs, from the model that is also its reference."""
    settings = PreferenceSettings(config.beta, config.label_smoothing, config.gamma)
    train_on_pairs(config, inputs, run, Objective(config.loss, settings, config.sft_coef))
