"""Tiny models of Stable Diffusion 3.5, Chroma and HiDream, composed as a user composes them and loaded once."""

from __future__ import annotations

from functools import cache
from typing import Any

from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

SAMPLE = Sample(prompt="a red circle", negative_prompt="dark", seed=3)
SIZE = {"width": 64, "height": 64}


def composed(*overrides: str) -> dict[str, Any]:
    with composer(None):
        return compose_job(list(overrides), list(overrides))


def config_of(*overrides: str) -> Any:
    return resolve_config(composed(*overrides))


@cache
def tiny(name: str) -> tuple[Any, Any, Any]:
    """(family, config, pipe)."""
    config = config_of(f"model={name}", "model.init=tiny", "model.dtype=float32").model
    family = find_implementation("model", config)
    return family, config, load(family, config, "cpu")
