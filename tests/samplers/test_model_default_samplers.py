"""The sampler that each model was published with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.models.test_every_model import MODELS, config_of
from wavespeed_runner.config.schema import Init
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.samplers import (
    SAMPLERS,
    model_default_sampler,
)

OWN = ("flux_schnell", "flux2_klein", "z_image_turbo", "hidream", "hidream_dev", "hidream_fast")
OWN += ("cogvideox", "cogvideox_2b", "cogvideox_i2v", "sd15", "sd21")
OWN += ("wan21", "wan21_14b", "wan21_i2v_480p", "wan21_i2v_720p", "wan22", "wan22_i2v", "wan22_5b")


@pytest.mark.parametrize("model", OWN)
def test_the_own_sampler_is_the_scheduler_that_the_model_has(model: str) -> None:
    config = config_of(model)
    family = find_implementation("model", config)
    scheduler = family.build(config, torch.float32, "meta").scheduler
    sampler = model_default_sampler(family, config)
    assert type(scheduler).__name__ == SAMPLERS[sampler.name].classes[family.schedule]
    assert family.own_shift(config) in (None, scheduler.config.get("flow_shift"))


def test_the_distilled_models_are_known() -> None:
    configs = {name: config_of(name) for name in MODELS}
    distilled = {name for name, config in configs.items() if find_implementation("model", config).is_distilled(config)}
    assert distilled == {
        "flux_schnell",
        "flux2_klein",
        "flux2_klein_9b",
        "z_image_turbo",
        "hidream_dev",
        "hidream_fast",
    }


@pytest.mark.parametrize(("model", "own"), [("sd15", "pndm"), ("wan21", "unipc")])
def test_the_own_sampler_of_a_fine_tune_is_not_known(model: str, own: str) -> None:
    config = replace(config_of(model), init=Init.pretrained)
    family = find_implementation("model", config)
    assert model_default_sampler(family, config).name == own
    assert model_default_sampler(family, replace(config, repo="somebody/fine-tune")).name == "default"
