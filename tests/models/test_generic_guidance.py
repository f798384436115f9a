"""A generic pipeline is guided exactly when asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.config.schema import Dtype, Guidance
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

Composed = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("name", "guidance", "scale", "rows"),
    [
        ("sd15", Guidance.none, None, 1),
        ("sd15", Guidance.true_cfg, None, 1),
        ("sd15", Guidance.true_cfg, 3.0, 2),
        ("qwen_image", Guidance.true_cfg, 3.0, 2),
        ("qwen_image", Guidance.none, None, 1),
    ],
)
def test_a_generic_pipeline_is_guided_exactly_when_asked(
    composed: Composed, tmp_path: Path, name: str, guidance: Guidance, scale: float | None, rows: int
) -> None:
    """Rows that the denoiser sees in one step, with an empty negative prompt."""
    from tests.models.shipped import config_of
    from tests.models.staged import run_stages
    from wavespeed_runner.artifacts import Sample
    from wavespeed_runner.models.families.generic import GenericConfig

    small = replace(config_of(name), dtype=Dtype.float32)
    family = find_implementation("model", small)
    load(family, small, "cpu").save_pretrained(tmp_path)
    size = {"width": family.tiny_size, "height": family.tiny_size}
    config = GenericConfig(repo=str(tmp_path), steps=2, guidance=guidance, guidance_scale=scale, **size)
    own = find_implementation("model", config)
    pipe, seen = load(own, config, "cpu"), []
    denoiser = getattr(pipe, family.denoiser)
    denoiser.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(args[0] if args else kwargs["hidden_states"])), with_kwargs=True
    )
    run_stages(own, pipe, config, Sample(prompt="a red circle"), steps=2, guidance_scale=scale, **size)
    calls = 3 if name == "sd15" else 2  # PNDM, its own sampler, takes its second step twice
    assert sum(seen) == calls * rows
