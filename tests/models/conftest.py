"""Tiny FLUX pipelines, built once: they are deterministic, and tests leave them as they found them."""

from __future__ import annotations

import pytest

from wavespeed_runner.config import Init
from wavespeed_runner.models.flux import FluxConfig, Guidance, load
from wavespeed_runner.values import Sample

SCALES = {Guidance.embedded: 3.5, Guidance.true_cfg: 2.0, Guidance.none: None}
SAMPLE = Sample(prompt="a red circle above a blue square", negative_prompt="dark", seed=3)


def tiny_config(guidance: Guidance = Guidance.embedded, **changes) -> FluxConfig:
    given = {"repo": "nobody/nothing", "init": Init.tiny, "steps": 3, "width": 64, "height": 64}
    given |= {"guidance": guidance, "guidance_scale": SCALES[guidance], "max_sequence_length": 24}
    return FluxConfig(**{**given, **changes})


@pytest.fixture(scope="session")
def tiny_pipes():
    """Guidance -> (pipe, its config)."""
    configs = {guidance: tiny_config(guidance) for guidance in Guidance}
    return {guidance: (load(config, "cpu"), config) for guidance, config in configs.items()}


@pytest.fixture(scope="session")
def tiny_folder(tiny_pipes, tmp_path_factory):
    """The embedded one as `save_pretrained` leaves it."""
    folder = tmp_path_factory.mktemp("tiny") / "flux"
    tiny_pipes[Guidance.embedded][0].save_pretrained(folder)
    return folder
