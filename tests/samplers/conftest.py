"""A tiny flow-matching and a tiny diffusion pipeline for the tests of samplers."""

from __future__ import annotations

import pytest

from tests.samplers.tiny_pipelines import TinyPipeline, tiny


@pytest.fixture(scope="module")
def flow() -> TinyPipeline:
    return tiny("demo")


@pytest.fixture(scope="module")
def unet() -> TinyPipeline:
    return tiny("sd15")
