"""Verdicts on quality and computed share for different images: intervals and noise floors."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sharing.claim_helpers import (
    Record,
    build_claim,
    change_record,
    get_verdicts,
    use_another_torch,
    verify_claim,
)
from wavespeed_runner.config.claim import ClaimedFigure
from wavespeed_runner.sharing.parts import NOT_REPRODUCED, REPRODUCED, WITHIN_NOISE
from wavespeed_runner.sharing.tolerance import CLAIM_CAP, INVISIBLE
from wavespeed_runner.sharing.verdict import combine_verdicts


@pytest.mark.parametrize(
    ("ssim", "verdict"),
    [
        (0.9, REPRODUCED),
        (0.88, REPRODUCED),
        (0.92, REPRODUCED),
        (0.8501, WITHIN_NOISE),
        (0.849, NOT_REPRODUCED),
        (0.9499, REPRODUCED),
        (0.951, REPRODUCED),
    ],
)
def test_quality_is_compared_with_the_interval_and_the_noise_floor(measured: Record, ssim: float, verdict: str) -> None:
    """Claimed: 0.88 to 0.92. With different numerics the reference differs from itself by 0.03."""
    claim = build_claim(measured)
    use_another_torch(measured)
    parts = verify_claim(claim, change_record(measured, lambda r: r["quality"]["ssim"].update(mean=ssim)))
    verdicts = get_verdicts(parts)
    assert verdicts["ssim"] == verdict and verdicts["images"] is None
    assert [part.name for part in parts if part.better] == (["ssim"] if ssim > 0.95 else [])
    assert {verdicts[name] for name in ("mae", "mae_similarity", "seconds", "speedup")} == {REPRODUCED}
    assert combine_verdicts(parts) == verdict


@pytest.mark.parametrize(("mae", "verdict"), [(16.29, WITHIN_NOISE), (16.31, NOT_REPRODUCED), (9.0, REPRODUCED)])
def test_the_noise_floor_of_mae_is_a_distance(measured: Record, mae: float, verdict: str) -> None:
    claim = build_claim(measured)
    use_another_torch(measured)
    parts = verify_claim(claim, change_record(measured, lambda r: r["quality"]["mae"].update(mean=mae)))
    assert get_verdicts(parts)["mae"] == verdict


def test_the_floor_of_other_numerics_does_not_count_where_nothing_differs(measured: Record) -> None:
    """With the same machine, versions and code, only the repeated reference counts."""

    def verdict(ssim: float, repeat: float) -> str | None:
        def change(record: Record) -> None:
            record["quality"]["ssim"]["mean"] = ssim
            record["noise_floor"]["repeat"] = {**record["noise_floor"]["repeat"], "ssim": repeat}

        return get_verdicts(verify_claim(build_claim(measured), change_record(measured, change)))["ssim"]

    assert verdict(0.86, 1.0) == NOT_REPRODUCED and verdict(0.8791, 1.0) == WITHIN_NOISE
    assert verdict(0.86, 0.98) == WITHIN_NOISE and verdict(0.859, 0.98) == NOT_REPRODUCED
    measured["noise_floor"]["repeat"] = {**measured["noise_floor"]["repeat"], "ssim": 0.98}
    assert verdict(0.86, 1.0) == WITHIN_NOISE, "the floor that the claim states"


def test_the_larger_floor_of_the_two_runs_counts(measured: Record) -> None:
    claim = build_claim(measured)

    def change(record: Record) -> None:
        record["quality"]["ssim"]["mean"] = 0.84
        record["noise_floor"]["numerics"]["ssim"] = 0.95
        use_another_torch(record)

    assert get_verdicts(verify_claim(claim, change_record(measured, change)))["ssim"] == WITHIN_NOISE


@pytest.mark.parametrize(
    ("ssim", "verdict"),
    [(0.92, REPRODUCED), (0.91998, WITHIN_NOISE), (0.9191, WITHIN_NOISE), (0.9189, NOT_REPRODUCED)],
)
def test_one_image_without_a_noise_floor_may_differ_invisibly(measured: Record, ssim: float, verdict: str) -> None:
    measured["noise_floor"] = None
    del measured["samples"][1:]
    claim = build_claim(measured)
    assert claim.ssim == ClaimedFigure(value=0.92, worst=0.92)
    parts = verify_claim(claim, change_record(measured, lambda r: r["quality"]["ssim"].update(mean=ssim)))
    assert get_verdicts(parts)["ssim"] == verdict
    (text,) = (part.text for part in parts if part.name == "ssim")
    assert text == f"{ssim:.5g}, claimed 0.92, noise 0.001"


def test_different_images_without_quality_are_not_reproduced(measured: Record) -> None:
    measured["quality"] = None
    parts = verify_claim(build_claim(measured), change_record(measured))
    assert get_verdicts(parts)["images"] == NOT_REPRODUCED and combine_verdicts(parts) == NOT_REPRODUCED


@settings(deadline=None)
@given(value=st.floats(0.01, 1.0), half=st.floats(0.0, 0.2), floor=st.floats(0.5, 1.0), off=st.floats(-0.5, 0.5))
def test_a_verdict_never_improves_with_distance(
    finished: tuple[Path, Record], value: float, half: float, floor: float, off: float
) -> None:
    record = deepcopy(finished[1])
    record["samples"][0]["pixels_sha256"] = "0" * 64
    claim = build_claim(finished[1])
    claim.ssim = ClaimedFigure(value=value, low=value - half, high=value + half, repeat_floor=floor)
    claim.psnr = claim.mae = claim.mae_similarity = None
    record["noise_floor"] = None
    half = min(half, CLAIM_CAP["ssim"])
    noise = max(min(1 - floor, CLAIM_CAP["ssim"] - half), INVISIBLE["ssim"])
    order = (REPRODUCED, WITHIN_NOISE, NOT_REPRODUCED)
    ranks = []
    for distance in (off, off * 1.5):
        record["quality"]["ssim"] = {"mean": value + distance, "ci95": None, "worst": None}
        ranks.append(order.index(get_verdicts(verify_claim(claim, record))["ssim"] or ""))
    assert ranks[0] <= ranks[1]
    rounding = 1e-4
    if off > -half:
        assert ranks[0] == 0
    elif -off > half + noise + rounding:
        assert ranks[0] == 2
    elif half + rounding < -off < half + noise:
        assert ranks[0] == 1


def test_a_larger_computed_share_than_claimed_is_not_reproduced(measured: Record) -> None:
    """For different images one step per image is noise: it may fall on either side of a threshold."""
    claim, share = build_claim(measured), build_claim(measured).computed_share or 0
    steps = [sum(step["computed"] for step in sample["steps"]) for sample in measured["samples"]]
    one_step = share / (sum(steps) / len(steps))
    for less, verdict in ((0.0, REPRODUCED), (0.9, WITHIN_NOISE), (1.1, NOT_REPRODUCED)):
        claim.computed_share = share - less * one_step
        assert get_verdicts(verify_claim(claim, change_record(measured)))["computed_share"] == verdict
    assert get_verdicts(
        verify_claim(claim, change_record(measured, lambda r: r["engaged"]["cache"].update(flop_share=0.001)))
    )["computed_share"] == (REPRODUCED)


def test_a_share_of_steps_is_not_compared_with_one_of_flops(measured: Record) -> None:
    claim = build_claim(measured)
    claim.computed_share = 0.1

    def change(record: Record) -> None:
        record["engaged"]["cache"].update(flop_share=None, flops_missing="no hooks")

    (share,) = (part for part in verify_claim(claim, change_record(measured, change)) if part.name == "computed_share")
    assert share.verdict is None and "FLOPs were not counted (no hooks)" in share.text


@pytest.mark.parametrize(
    ("psnr", "verdict"),
    [(28.0, REPRODUCED), (25.62, WITHIN_NOISE), (25.6, NOT_REPRODUCED), (None, REPRODUCED)],
)
def test_psnr_is_verified(measured: Record, psnr: float | None, verdict: str) -> None:
    """At least 28 is claimed; a noise floor of 40 dB adds 2.4 dB to an error of 30 dB. None is infinite."""
    claim = build_claim(measured)
    use_another_torch(measured)
    parts = verify_claim(claim, change_record(measured, lambda r: r["quality"]["psnr"].update(mean=psnr)))
    assert get_verdicts(parts)["psnr"] == verdict
    assert [part.name for part in parts if part.better] == (["psnr"] if psnr is None else [])
