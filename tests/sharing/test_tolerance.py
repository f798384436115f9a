"""Tolerances: what a claim says of itself counts up to a cap, and no number makes verification fail."""

from __future__ import annotations

from copy import deepcopy
from math import inf, nan

import pytest

from tests.sharing.claim_helpers import (
    Record,
    build_claim,
    change_record,
    use_another_torch,
    verify_claim,
    verify_figure,
)
from wavespeed_runner.config.claim import ClaimedFigure
from wavespeed_runner.sharing.claim import find_contradictions
from wavespeed_runner.sharing.parts import NOT_REPRODUCED, REPRODUCED
from wavespeed_runner.sharing.tolerance import CLAIM_CAP, TIME_CAP
from wavespeed_runner.sharing.verdict import combine_verdicts

TOO_WIDE: dict[str, tuple[str, ClaimedFigure, float]] = {
    "interval": ("ssim", ClaimedFigure(value=0.999, low=0.0, high=1.0), 0.1),
    "floor": ("ssim", ClaimedFigure(value=0.999, repeat_floor=0.0), 0.1),
    "both": ("ssim", ClaimedFigure(value=0.999, low=0.9, high=1.0, repeat_floor=0.9), 0.94),
    "numerics": ("mae_similarity", ClaimedFigure(value=0.99, noise_floor=0.0), 0.5),
    "MAE": ("mae", ClaimedFigure(value=1.0, low=0.0, high=255.0, repeat_floor=255.0), 80.0),
    "PSNR": ("psnr", ClaimedFigure(value=60.0, repeat_floor=1.0), 8.0),
    "seconds": ("seconds", ClaimedFigure(value=0.1, low=0.1, high=1000.0), 1.05),
    "repetitions": ("seconds", ClaimedFigure(value=0.1, high=0.12, repeat_floor=99.0), 1.05),
    "speed-up": ("speedup", ClaimedFigure(value=10.0, low=0.5, high=12.0), 1.2),
}
"""Claims whose interval or noise floor is so wide that nothing would be outside, and what was measured."""


@pytest.mark.parametrize("what", TOO_WIDE)
def test_no_claim_can_be_written_so_that_it_never_fails(measured: Record, what: str) -> None:
    part = verify_figure(measured, *TOO_WIDE[what])
    assert (
        part.verdict == NOT_REPRODUCED and ", the claim's own interval and noise floors count for at most " in part.text
    ), part


@pytest.mark.parametrize(
    ("name", "value", "wide", "inside", "outside"),
    [
        ("ssim", 0.9, {"low": 0.7, "high": 0.99}, 0.8501, 0.8485),
        ("ssim", 0.9, {"repeat_floor": 0.7}, 0.8501, 0.8499),
        ("ssim", 0.9, {"low": 0.88, "high": 0.92, "repeat_floor": 0.9}, 0.8501, 0.8499),
        ("mae", 12.75, {"low": 3.0, "high": 30.0}, 17.7, 17.9),
        ("psnr", 30.0, {"low": 20.0, "high": 40.0}, 27.01, 26.8),
        ("seconds", 1.0, {"low": 0.5, "high": 2.0}, 1.3, 1.31),
        ("speedup", 2.0, {"low": 1.1, "high": 4.0}, 1.53, 1.52),
    ],
)
def test_a_wide_interval_counts_up_to_a_cap(
    measured: Record, name: str, value: float, wide: dict[str, float], inside: float, outside: float
) -> None:
    """Beyond the cap only measured noise counts, here the minimum: five percent of a time."""
    for sample in measured["samples"]:
        sample["reference_raw_seconds"] = [2.0]
    figure = ClaimedFigure(value=value, **wide)
    good, bad = (verify_figure(measured, name, figure, value) for value in (inside, outside))
    assert (good.verdict != NOT_REPRODUCED, bad.verdict) == (True, NOT_REPRODUCED), (good, bad)
    cap = f"{CLAIM_CAP[name]:.2g}" if name in CLAIM_CAP else f"{TIME_CAP:.0%}"
    assert good.text.endswith(f", the claim's own interval and noise floors count for at most {cap}")


def test_a_cap_without_effect_is_not_mentioned(measured: Record) -> None:
    parts = verify_claim(build_claim(measured), change_record(measured))
    assert combine_verdicts(parts) == REPRODUCED and not any("at most" in part.text for part in parts), parts


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-320, inf, -inf, nan])
@pytest.mark.parametrize("name", ["seconds", "speedup", "ssim", "mae", "psnr"])
def test_any_number_is_verified_without_an_error(measured: Record, name: str, value: float) -> None:
    """A stranger may write any number. Only one that a run can measure may hold."""
    claim = build_claim(measured)
    for part in ("value", "low", "high", "repeat_floor", "noise_floor"):
        figure = deepcopy(getattr(claim, name))
        setattr(figure, part, value)
        changed = deepcopy(claim)
        setattr(changed, name, figure)
        parts = verify_claim(changed, change_record(measured, use_another_torch))
        assert combine_verdicts(parts) == NOT_REPRODUCED or find_contradictions(changed) == []
