"""Claims: what a record claims, and every way in which another run bears it out or does not."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.claims import (
    LEAST,
    NOT_REPRODUCED,
    REPRODUCED,
    WITHIN_NOISE,
    Judged,
    claim_of,
    differences,
    judge,
    verdict_of,
)
from wavespeed_runner.config import ClaimedFigure
from wavespeed_runner.metrics.quality import summarize
from wavespeed_runner.report.measured import measured as reported

Record = dict[str, Any]


@pytest.fixture
def measured(finished: tuple[Path, Record]) -> Record:
    """The finished run, with round figures in the place of the measured ones."""
    record = deepcopy(finished[1])
    for sample, seconds, sign in zip(record["samples"], (1.0, 1.1), (1, -1), strict=True):
        sample |= {"seconds": seconds, "raw_seconds": [seconds], "reference_seconds": 2.0, "timed_together": True}
        sample["reference_raw_seconds"] = [2.0 + 0.1 * sign]
        sample["quality"] = {
            "ssim": 0.9 + 0.02 * sign,
            "mae_similarity": 0.95 + 0.01 * sign,
            "mae": 12.75 - 2.55 * sign,
            "psnr": 30.0 + 2 * sign,
        }
    record["timing"] |= {"raw": [1.0, 1.1], "median": 1.05, "mad": 0.05, "speedup": 1.9, "same_run": True}
    record["quality"] = summarize([sample["quality"] for sample in record["samples"]])
    floor = {"mae": 1.0, "mae_similarity": 0.99, "ssim": 0.97, "psnr": 40.0}
    perfect = {"mae": 0.0, "mae_similarity": 1.0, "ssim": 1.0, "psnr": None}
    record["noise_floor"] = {"latents_max_abs": 0.0, "repeat": perfect, "numerics": {"what": "bfloat16", **floor}}
    return record


def again(
    measured: Record, change: Callable[[Record], Any] = lambda record: None, *, other_pixels: bool = True
) -> Record:
    record = deepcopy(measured)
    if other_pixels:
        record["samples"][0]["pixels_sha256"] = "0" * 64
    change(record)
    return record


def with_another_torch(record: Record) -> None:
    record["environment"]["versions"]["torch"] = "0.1"


def with_raw_seconds(record: Record, *raw: list[float]) -> None:
    for sample, seconds in zip(record["samples"], raw, strict=True):
        sample["raw_seconds"] = seconds


def said(parts: list[Judged]) -> dict[str, str | None]:
    return {part.what: part.verdict for part in parts}


def test_a_claim_is_what_was_measured(measured: Record) -> None:
    claim = claim_of(measured)
    assert claim.seconds == ClaimedFigure(value=1.05, low=1.0, high=1.1, mad=0.0525)
    assert claim.speedup == ClaimedFigure(value=1.9, low=1.81818, high=2.0)
    assert claim.ssim == ClaimedFigure(value=0.9, low=0.88, high=0.92, worst=0.88, noise_floor=0.97, repeat_floor=1.0)
    assert claim.mae is not None and claim.mae.worst == 15.3
    assert (claim.mae.noise_floor, claim.mae.repeat_floor) == (1.0, 0.0)
    assert claim.psnr is not None and (claim.psnr.noise_floor, claim.psnr.repeat_floor) == (40.0, None)
    assert (claim.prompts, len(claim.pixels_sha256)) == (2, 2) and claim.versions["torch"]
    assert claim.computed_share == pytest.approx(measured["engaged"]["cache"]["flop_share"], rel=1e-5)


def test_a_speedup_that_is_a_guess_is_not_claimed(measured: Record) -> None:
    measured["timing"]["same_run"] = False
    assert claim_of(measured).speedup is None and claim_of(measured).seconds is not None


def test_identical_pictures_have_no_psnr(measured: Record) -> None:
    for sample in measured["samples"]:
        sample["quality"]["psnr"] = None
    assert claim_of(measured).psnr is None


def test_the_same_again_is_reproduced(measured: Record) -> None:
    parts = judge(claim_of(measured), measured)
    assert said(parts) == {"pictures": REPRODUCED, "seconds": REPRODUCED, "speedup": REPRODUCED}
    assert verdict_of(parts) == REPRODUCED and differences(claim_of(measured), measured) == []


@pytest.mark.parametrize(
    ("ssim", "verdict"),
    [
        (0.9, REPRODUCED),
        (0.88, REPRODUCED),
        (0.92, REPRODUCED),
        (0.8501, WITHIN_NOISE),
        (0.9499, WITHIN_NOISE),
        (0.849, NOT_REPRODUCED),
        (0.951, NOT_REPRODUCED),
    ],
)
def test_a_likeness_is_held_against_the_interval_and_the_floor(measured: Record, ssim: float, verdict: str) -> None:
    """Claimed 0.88 to 0.92; in other numerics the reference is 0.03 away from itself."""
    claim = claim_of(measured)
    with_another_torch(measured)
    parts = judge(claim, again(measured, lambda r: r["quality"]["ssim"].update(mean=ssim)))
    found = said(parts)
    assert found["ssim"] == verdict and found["pictures"] is None
    assert {found[name] for name in ("mae", "mae_similarity", "seconds", "speedup")} == {REPRODUCED}
    assert verdict_of(parts) == verdict


@pytest.mark.parametrize(("mae", "verdict"), [(16.29, WITHIN_NOISE), (16.31, NOT_REPRODUCED), (9.21, WITHIN_NOISE)])
def test_the_floor_of_mae_is_a_distance(measured: Record, mae: float, verdict: str) -> None:
    claim = claim_of(measured)
    with_another_torch(measured)
    parts = judge(claim, again(measured, lambda r: r["quality"]["mae"].update(mean=mae)))
    assert said(parts)["mae"] == verdict


def test_other_numerics_excuse_nothing_where_nothing_differs(measured: Record) -> None:
    """The same machine, versions and code: what counts is how the reference repeats itself."""

    def verdict(ssim: float, repeat: float) -> str | None:
        def change(record: Record) -> None:
            record["quality"]["ssim"]["mean"] = ssim
            record["noise_floor"]["repeat"] = {**record["noise_floor"]["repeat"], "ssim": repeat}

        return said(judge(claim_of(measured), again(measured, change)))["ssim"]

    assert verdict(0.86, 1.0) == NOT_REPRODUCED and verdict(0.8791, 1.0) == WITHIN_NOISE
    assert verdict(0.86, 0.98) == WITHIN_NOISE and verdict(0.859, 0.98) == NOT_REPRODUCED
    measured["noise_floor"]["repeat"] = {**measured["noise_floor"]["repeat"], "ssim": 0.98}
    assert verdict(0.86, 1.0) == WITHIN_NOISE, "the claim's own"


def test_the_larger_floor_of_the_two_runs_counts(measured: Record) -> None:
    claim = claim_of(measured)

    def change(record: Record) -> None:
        record["quality"]["ssim"]["mean"] = 0.84
        record["noise_floor"]["numerics"]["ssim"] = 0.95
        with_another_torch(record)

    assert said(judge(claim, again(measured, change)))["ssim"] == WITHIN_NOISE


@pytest.mark.parametrize(
    ("ssim", "verdict"),
    [(0.92, REPRODUCED), (0.92002, WITHIN_NOISE), (0.9191, WITHIN_NOISE), (0.9211, NOT_REPRODUCED)],
)
def test_one_picture_without_a_floor_has_a_little_room(measured: Record, ssim: float, verdict: str) -> None:
    measured["noise_floor"] = None
    del measured["samples"][1:]
    claim = claim_of(measured)
    assert claim.ssim == ClaimedFigure(value=0.92, worst=0.92)
    parts = judge(claim, again(measured, lambda r: r["quality"]["ssim"].update(mean=ssim)))
    assert said(parts)["ssim"] == verdict
    (text,) = (part.text for part in parts if part.what == "ssim")
    assert text == f"{ssim:.5g}, claimed 0.92, noise 0.001"


def test_intervals_are_the_reports(measured: Record) -> None:
    """All seeds of a prompt are drawn together: pictures that are alike within a prompt make it no narrower."""
    samples = measured["samples"] = [deepcopy(one) for one in measured["samples"] for _ in range(8)]
    for number, sample in enumerate(samples):
        sample["seed"] = number % 8
        sample["quality"]["ssim"] += 0.001 * (number % 8)
    measured["quality"] = summarize([sample["quality"] for sample in samples])
    claim, report = claim_of(measured), reported(measured)
    for figure, own in ((claim.ssim, report["quality"]["ssim"].mean), (claim.seconds, report["seconds"])):
        assert figure is not None
        assert (figure.low, figure.high) == (pytest.approx(own.low, rel=1e-5), pytest.approx(own.high, rel=1e-5))
    low, high = measured["quality"]["ssim"]["ci95"]
    assert claim.ssim is not None and claim.ssim.high - claim.ssim.low > 1.5 * (high - low)  # type: ignore[operator]


def test_fewer_steps_than_the_reference_count_as_work_saved(measured: Record) -> None:
    full = claim_of(measured).computed_share
    measured["config"]["measure"]["reference_steps"] = 2 * measured["config"]["steps"]
    assert full is not None and claim_of(measured).computed_share == pytest.approx(full / 2, rel=1e-5)


def test_other_pictures_without_a_figure_are_not_reproduced(measured: Record) -> None:
    measured["quality"] = None
    parts = judge(claim_of(measured), again(measured))
    assert said(parts)["pictures"] == NOT_REPRODUCED and verdict_of(parts) == NOT_REPRODUCED


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [(0.2, REPRODUCED), (1.1, REPRODUCED), (1.1 + 0.23, WITHIN_NOISE), (1.1 + 0.24, NOT_REPRODUCED)],
)
def test_a_time_is_held_against_the_spread_of_repeats(measured: Record, seconds: float, verdict: str) -> None:
    """Three robust standard deviations: 3 * 1.4826 * 0.05 = 0.222, of 1.05."""
    parts = judge(claim_of(measured), again(measured, lambda r: r["timing"].update(median=seconds)))
    assert said(parts)["seconds"] == verdict


@pytest.mark.parametrize(("speedup", "verdict"), [(9.0, REPRODUCED), (1.732, WITHIN_NOISE), (1.731, NOT_REPRODUCED)])
def test_without_spread_a_machine_has_a_twentieth(measured: Record, speedup: float, verdict: str) -> None:
    """Claimed 1.818 at least, which becomes 1.732."""
    for sample in measured["samples"]:
        sample["reference_raw_seconds"] = [2.0]
    parts = judge(claim_of(measured), again(measured, lambda r: r["timing"].update(speedup=speedup)))
    assert said(parts)["speedup"] == verdict and verdict_of(parts) == verdict


def test_pictures_that_differ_are_no_noise(measured: Record) -> None:
    """One picture takes half the other's time, again and again: a cache that hits more often, not a busy machine."""
    with_raw_seconds(measured, [1.0, 1.0, 1.0], [0.5, 0.5, 0.5])
    claim = claim_of(measured)
    assert claim.seconds is not None and claim.seconds.mad == 0
    parts = judge(claim, again(measured, lambda r: r["timing"].update(median=1.0 + 0.25)))
    assert said(parts)["seconds"] == NOT_REPRODUCED and "spread 5%" in parts[-1].text


def test_a_slow_run_is_not_reproduced_for_some_noise(measured: Record) -> None:
    claim = claim_of(measured)
    claim.seconds = ClaimedFigure(value=1.0, low=0.98, high=1.02, mad=0.05)

    def verdict(median: float) -> str | None:
        return said(judge(claim, again(measured, lambda r: r["timing"].update(median=median))))["seconds"]

    assert verdict(1.2) == WITHIN_NOISE and verdict(1.5) == NOT_REPRODUCED


@pytest.mark.parametrize("noise", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("speedup", [0.95, 1.0])
def test_no_noise_makes_a_speedup_of_none(measured: Record, speedup: float, noise: float) -> None:
    claim = claim_of(measured)
    claim.seconds = ClaimedFigure(value=1.0, low=0.9, high=1.1, mad=noise)
    for low in (1.9, 1.01):
        claim.speedup = ClaimedFigure(value=low + 0.1, low=low, high=low + 0.2)
        parts = judge(claim, again(measured, lambda r: r["timing"].update(speedup=speedup)))
        assert said(parts)["speedup"] == NOT_REPRODUCED


def test_a_very_busy_machine_is_no_excuse(measured: Record) -> None:
    """At most a quarter of a time is noise: of 2.0 at least, 1.6 is left."""
    with_raw_seconds(measured, [0.4, 1.0, 3.0], [0.4, 1.0, 3.0])
    claim = claim_of(measured)
    claim.speedup = ClaimedFigure(value=2.1, low=2.0, high=2.2)
    for speedup, verdict in ((1.601, WITHIN_NOISE), (1.599, NOT_REPRODUCED)):
        measured["timing"]["speedup"] = speedup
        assert said(judge(claim, again(measured)))["speedup"] == verdict


def test_speed_is_not_judged_on_other_hardware(measured: Record) -> None:
    def change(record: Record) -> None:
        record["environment"]["device_name"] = "another"
        record["timing"] |= {"median": 99.0, "speedup": 0.1}

    record = again(measured, change, other_pixels=False)
    parts = judge(claim_of(measured), record)
    assert said(parts) == {"pictures": REPRODUCED, "seconds": None, "speedup": None} and verdict_of(parts) == REPRODUCED
    assert "not comparable: other hardware" in parts[-1].text


def test_reasons_are_named(measured: Record) -> None:
    claim = claim_of(measured)

    def change(record: Record) -> None:
        record["environment"]["versions"]["torch"] = "0.1"
        record["environment"]["code"] = "mine"
        record["plan"]["prompts"] = ["another"]

    found = differences(claim, again(measured, change))
    assert found[0] == "other prompts" and any(f"torch {claim.versions['torch']} -> 0.1" in one for one in found)
    assert any(one.endswith("-> mine") for one in found)
    edited = again(measured, lambda r: r.update(fingerprint="0" * 64))
    assert differences(claim, edited) == ["other weights, or the config was edited"]


@given(value=st.floats(0.01, 1.0), half=st.floats(0.0, 0.2), floor=st.floats(0.5, 1.0), off=st.floats(-0.5, 0.5))
def test_a_verdict_never_gets_better_further_away(
    finished: tuple[Path, Record], value: float, half: float, floor: float, off: float
) -> None:
    record = deepcopy(finished[1])
    record["samples"][0]["pixels_sha256"] = "0" * 64
    claim = claim_of(finished[1])
    claim.ssim = ClaimedFigure(value=value, low=value - half, high=value + half, repeat_floor=floor)
    record["noise_floor"] = None
    room = max(1 - floor, LEAST["ssim"])
    order = (REPRODUCED, WITHIN_NOISE, NOT_REPRODUCED)
    ranks = []
    for distance in (off, off * 1.5):
        record["quality"]["ssim"] = {"mean": value + distance, "ci95": None, "worst": None}
        ranks.append(order.index(said(judge(claim, record))["ssim"] or ""))
    assert ranks[0] <= ranks[1]
    rounding = 1e-4
    if abs(off) < half:
        assert ranks[0] == 0
    elif abs(off) > half + room + rounding:
        assert ranks[0] == 2
    elif half + rounding < abs(off) < half + room:
        assert ranks[0] == 1
