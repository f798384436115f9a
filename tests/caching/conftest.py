"""Denoisers to put strategies on: the tiny FLUX of random weights, with and without classifier-free guidance."""

from __future__ import annotations

import pytest

from tests.caching.generate import Generated
from tests.models.tiny_flux import tiny_config
from wavespeed_runner.config.schema import Guidance
from wavespeed_runner.models.families.flux import FLUX
from wavespeed_runner.models.weights.pretrained import load


@pytest.fixture(scope="session")
def plain() -> Generated:
    config = tiny_config(Guidance.embedded)
    return Generated(load(FLUX, config, "cpu"), config)


@pytest.fixture(scope="session")
def guided() -> Generated:
    config = tiny_config(Guidance.true_cfg)
    return Generated(load(FLUX, config, "cpu"), config)
