"""What the tests of this folder share: a sample, and configurations of tiny FLUX."""

from __future__ import annotations

from typing import Any

from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.schema import Guidance, Init
from wavespeed_runner.models.families.flux import FluxConfig

SCALES = {Guidance.embedded: 3.5, Guidance.true_cfg: 2.0, Guidance.none: None}
SAMPLE = Sample(prompt="a red circle above a blue square", negative_prompt="dark", seed=3)


def tiny_config(guidance: Guidance = Guidance.embedded, **changes: Any) -> FluxConfig:
    given: dict[str, Any] = {"repo": "nobody/nothing", "init": Init.tiny, "steps": 3, "width": 64, "height": 64}
    given |= {"guidance": guidance, "guidance_scale": SCALES[guidance], "max_sequence_length": 40}
    return FluxConfig(**{**given, **changes})
