"""What a run says of its cache strategy: share of FLOPs, thresholds that decide nothing, what was predicted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_as_data
from wavespeed_runner.caching.calibration.data import Calibration, build_file_name, build_key
from wavespeed_runner.caching.calibration.file import save
from wavespeed_runner.planning.plan import Plan

Planned = Callable[..., Plan]
GUIDED = ("guidance_scale=2", "model.guidance=true_cfg", "negative_prompt=dark")


def run(planned: Planned, folder: Path, *overrides: str) -> dict[str, Any]:
    record = run_as_data(planned(*overrides), folder, [])
    assert record["status"] == "completed", record["error"]
    return record


@pytest.mark.parametrize("guidance", [(), GUIDED], ids=["plain", "guided"])
def test_a_warm_up_counts_flops_and_changes_no_pixel(planned: Planned, tmp_path: Path, guidance: Any) -> None:
    given = ("cache=fbcache", "cache.residual_diff_threshold=9", "rerun=true", *guidance)
    with_it = run(planned, tmp_path / "one", *given, "measure.warmup=1", "measure.repeats=2")
    without = run(planned, tmp_path / "two", *given, "measure.warmup=0")
    assert with_it["samples"][0]["pixels_sha256"] == without["samples"][0]["pixels_sha256"]
    said, silent = with_it["engaged"]["cache"], without["engaged"]["cache"]
    assert 0 < said["flop_share"] < said["denoiser_flop_share"] < 1 and "flops_missing" not in said
    # The tiny FLUX' six blocks, one always run, are of like size; one of four steps is computed.
    assert said["flop_share"] == pytest.approx(said["block_share"], abs=0.02)
    assert silent["flop_share"] is None and silent["flops_missing"] == "no warm-up (measure.warmup=0)"


def test_later_images_of_a_setting_have_the_counts_of_its_warm_up(planned: Planned, tmp_path: Path) -> None:
    given = ("cache=fbcache", "cache.residual_diff_threshold=9", "num_images_per_prompt=3", "measure.warmup=1")
    each = [sample["engaged"]["denoise"]["cache"] for sample in run(planned, tmp_path, *given)["samples"]]
    assert len(each) == 3 and len({one["block_flops"] for one in each}) == 1 and each[2]["flop_share"] < 1


def test_a_threshold_that_let_everything_pass_is_a_warning(planned: Planned, tmp_path: Path) -> None:
    record = run(planned, tmp_path, "cache=fbcache", "cache.residual_diff_threshold=9", *GUIDED)
    branches = [one for step in record["samples"][0]["steps"] for one in step["branches"].values()]
    highest = max(one["level"] for one in branches if one["level"] is not None)
    assert record["warnings"][-1] == (
        "every step that was allowed to be reused was reused; lower cache.residual_diff_threshold below "
        f"{highest:.4g} to change that"
    )


def test_a_threshold_that_decided_is_none(planned: Planned, tmp_path: Path) -> None:
    record = run(planned, tmp_path, "cache=fbcache", "cache.residual_diff_threshold=0.65", "steps=6")
    assert 0 < record["cache"]["hits"] < 5, "else it did not decide"
    assert not any(warning.startswith(("the cache", "every step")) for warning in record["warnings"])


def test_a_calibration_of_the_run_predicts_its_steps(planned: Planned, tmp_path: Path) -> None:
    given = ("cache=fbcache", "cache.residual_diff_threshold=0.65", "steps=6")
    assert run(planned, tmp_path / "without", *given)["cache"]["predicted"] is None
    # Steps 2 and 3 change little, whatever they are compared with; the others much.
    rows = [[0.1] * i if i in (1, 2) else [1.0] * i for i in range(1, 6)]
    plan = planned(*given)
    key = build_key(plan.config)
    made = Calibration(key=key, made={}, sigmas=[1 - i / 6 for i in range(6)])
    made.signals["first_block_residual"] = {"cond": rows}
    path = tmp_path / "outputs" / "calibrations" / build_file_name(key)
    save(made, path)
    predicted = run(planned, tmp_path / "with", *given)["cache"]["predicted"]
    assert predicted == {"calibration": str(path), "computed_steps": [1, 4, 5, 6]}
    scheduled = run(planned, tmp_path / "schedule", "cache=taylorseer", "cache/predictor=reuse", "steps=6")
    assert scheduled["cache"]["predicted"] is None, "its steps are known anyway"
