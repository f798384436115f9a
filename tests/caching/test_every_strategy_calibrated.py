"""Strategies that need a calibration run with one that was made of the same model."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from tests.caching.strategy_outcomes import build_config, compose_configs, needs_calibration, try_plan
from tests.caching.strategy_runs import check_clean, check_run
from wavespeed_runner.caching.calibration.data import build_file_name, build_key
from wavespeed_runner.caching.calibration.file import save
from wavespeed_runner.planning.plan import Plan, build_plan
from wavespeed_runner.tuning.calibrate import calibrate

CALIBRATED = [
    *((family, strategy) for family in ("flux", "sd3", "wan") for strategy in ("teacache", "magcache", "planned")),
    *(("sd", strategy) for strategy in ("magcache", "planned")),
    *((family, "fitted") for family in ("flux", "sd3", "wan", "sd")),
]
"""FLUX, a transformer that batches guidance, one with a call for each guidance branch, and a U-Net."""


@pytest.fixture(scope="module")
def calibrate_family(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function: family -> an `outputs` folder with its calibration, made by the real code on two prompts."""

    @lru_cache
    def calibrate_once(family: str) -> Path:
        folder = tmp_path_factory.mktemp(family)
        config = build_config(family, folder=folder) | {"seeds": "per_prompt"}
        plan = build_plan(config, ["a red circle", "two blue squares"])
        key = build_key(plan.config)
        save(calibrate(plan, key), folder / "calibrations" / build_file_name(key))
        return folder

    return calibrate_once


@pytest.mark.parametrize(("family", "strategy"), CALIBRATED)
def test_with_a_calibration_of_the_run_it_runs(
    family: str, strategy: str, calibrate_family: Any, tmp_path: Path
) -> None:
    cache = deepcopy(compose_configs()[1]["fbcache" if strategy == "fitted" else strategy])
    if strategy == "fitted":
        cache["predictor"] = {"name": "fitted"}
    without = try_plan(build_config(family, cache, tmp_path))
    plan = try_plan(build_config(family, cache, calibrate_family(family)))
    assert isinstance(plan, Plan), plan
    filled = [change for change in plan.changes if change.key.startswith("cache.")]
    assert filled
    if isinstance(without, str):
        assert needs_calibration(without) and all("calibration" in change.why for change in filled)
    else:
        assert all("published" in change.why for change in filled)
    check_run(family, "fbcache" if strategy == "fitted" else strategy, plan)
    check_clean(family)
    if strategy == "planned":
        steps = plan.graph.nodes["denoise"].options.cache.criterion.schedule
        assert len(steps) == 3 and steps[0] == 1
