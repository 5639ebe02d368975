"""Settings of stages: defaults and how parts of them are changed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tutelage.stages.configs import DPOConfig, PretrainConfig


def test_a_part_of_the_settings_changes_only_that_part_of_the_stages_default():
    default = PretrainConfig(tokens="a", tokenizer="b").optimizer
    changed = PretrainConfig(tokens="a", tokenizer="b", optimizer={"decay_share": 1.0}).optimizer
    assert default.kind == changed.kind == "muon"
    assert changed == default.model_copy(update={"decay_share": 1.0})
    loop = DPOConfig(model="a", preferences="b", loop={"checkpoint_seconds": 1}).loop
    assert (loop.checkpoint_seconds, loop.evaluate_every) == (
        1,
        DPOConfig(model="a", preferences="b").loop.evaluate_every,
    )


def test_an_unknown_part_is_refused():
    with pytest.raises(ValidationError, match="decay_shar"):
        PretrainConfig(tokens="a", tokenizer="b", optimizer={"decay_shar": 1.0})
