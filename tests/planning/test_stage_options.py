"""Options that the graph gives to single stages: what they change, and what they may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import Plan, build_plan

Composed = Callable[..., dict[str, Any]]
Planned = Callable[..., Plan]


def test_strength_is_no_part_of_what_starts_from_noise(planned: Planned) -> None:
    plain = planned()
    fixed, stronger = (planned("graph=hires_fix", f"strength={strength}") for strength in (0.3, 0.5))
    assert plain.keys[0]["denoise"] == fixed.keys[0]["denoise"] == stronger.keys[0]["denoise"]
    assert fixed.keys[0]["denoise_large"] != stronger.keys[0]["denoise_large"]


def test_a_stage_cannot_be_told_what_no_run_may(composed: Composed) -> None:
    for key, value in (("batch_size", 0), ("repeats", 0), ("warmup", -1)):
        data = composed()
        data["graph"]["stages"]["denoise"]["options"] = {key: value}
        with pytest.raises(ConfigError, match=f"{key}={value}"):
            build_plan(data)
