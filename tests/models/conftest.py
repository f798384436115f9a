"""Tiny FLUX pipelines, built once: they are deterministic, and tests leave them as they found them."""

from __future__ import annotations

import pytest

from tests.models.tiny_flux import tiny_config
from wavespeed_runner.config.schema import Guidance
from wavespeed_runner.models.families.flux import FLUX
from wavespeed_runner.models.weights.pretrained import load


@pytest.fixture(scope="session")
def tiny_pipes():
    """Guidance -> (pipe, its config)."""
    configs = {guidance: tiny_config(guidance) for guidance in Guidance}
    return {guidance: (load(FLUX, config, "cpu"), config) for guidance, config in configs.items()}


@pytest.fixture(scope="session")
def tiny_folder(tiny_pipes, tmp_path_factory):
    """The embedded one as `save_pretrained` leaves it."""
    folder = tmp_path_factory.mktemp("tiny") / "flux"
    tiny_pipes[Guidance.embedded][0].save_pretrained(folder)
    return folder
