"""Claims: what a record claims, and every way in which another run bears it out or does not."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sharing.on_data import claim_of, differences, headline, judge
from wavespeed_runner.config.claim import ClaimConfig, ClaimedFigure
from wavespeed_runner.metrics.quality import summarize_metrics
from wavespeed_runner.metrics.timing import summarize_timings
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.records.summary import summarize_record
from wavespeed_runner.sharing.claim import OTHER_CONFIG, contradictions
from wavespeed_runner.sharing.tolerance import CLAIMED, LEAST, MOST
from wavespeed_runner.sharing.verdict import NOT_REPRODUCED, REPRODUCED, WITHIN_NOISE, Judged, verdict_of

Record = dict[str, Any]
"""As record.json has it."""


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
    record["quality"] = summarize_metrics([sample["quality"] for sample in record["samples"]])
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
    assert claim.seconds == ClaimedFigure(value=1.05, low=1.0, high=1.1, mad=0.05, repeat_floor=0.0525)
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


def test_identical_images_have_no_psnr(measured: Record) -> None:
    for sample in measured["samples"]:
        sample["quality"]["psnr"] = None
    assert claim_of(measured).psnr is None


def test_the_same_again_is_reproduced(measured: Record) -> None:
    parts = judge(claim_of(measured), measured)
    assert said(parts) == dict.fromkeys(("images", *OF_IMAGES, "seconds", "speedup"), REPRODUCED)
    assert verdict_of(parts) == REPRODUCED and differences(claim_of(measured), measured) == []


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
def test_a_likeness_is_held_against_the_interval_and_the_floor(measured: Record, ssim: float, verdict: str) -> None:
    """Claimed 0.88 to 0.92; in other numerics the reference is 0.03 away from itself."""
    claim = claim_of(measured)
    with_another_torch(measured)
    parts = judge(claim, again(measured, lambda r: r["quality"]["ssim"].update(mean=ssim)))
    found = said(parts)
    assert found["ssim"] == verdict and found["images"] is None
    assert [part.what for part in parts if part.better] == (["ssim"] if ssim > 0.95 else [])
    assert {found[name] for name in ("mae", "mae_similarity", "seconds", "speedup")} == {REPRODUCED}
    assert verdict_of(parts) == verdict


@pytest.mark.parametrize(("mae", "verdict"), [(16.29, WITHIN_NOISE), (16.31, NOT_REPRODUCED), (9.0, REPRODUCED)])
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
    [(0.92, REPRODUCED), (0.91998, WITHIN_NOISE), (0.9191, WITHIN_NOISE), (0.9189, NOT_REPRODUCED)],
)
def test_one_image_without_a_floor_has_a_little_room(measured: Record, ssim: float, verdict: str) -> None:
    measured["noise_floor"] = None
    del measured["samples"][1:]
    claim = claim_of(measured)
    assert claim.ssim == ClaimedFigure(value=0.92, worst=0.92)
    parts = judge(claim, again(measured, lambda r: r["quality"]["ssim"].update(mean=ssim)))
    assert said(parts)["ssim"] == verdict
    (text,) = (part.text for part in parts if part.what == "ssim")
    assert text == f"{ssim:.5g}, claimed 0.92, noise 0.001"


def test_intervals_are_the_reports(measured: Record) -> None:
    """All seeds of a prompt are drawn together: images that are alike within a prompt make it no narrower."""
    samples = measured["samples"] = [deepcopy(one) for one in measured["samples"] for _ in range(8)]
    for number, sample in enumerate(samples):
        sample["seed"] = number % 8
        sample["quality"]["ssim"] += 0.001 * (number % 8)
    measured["quality"] = summarize_metrics([sample["quality"] for sample in samples])
    claim, summary = claim_of(measured), summarize_record(record_from_data(measured))
    for figure, own in ((claim.ssim, summary.quality["ssim"].mean), (claim.seconds, summary.seconds)):
        assert figure is not None
        assert (figure.low, figure.high) == (pytest.approx(own.low, rel=1e-5), pytest.approx(own.high, rel=1e-5))
    low, high = measured["quality"]["ssim"]["ci95"]
    assert claim.ssim is not None and claim.ssim.high - claim.ssim.low > 1.5 * (high - low)  # type: ignore[operator]


def test_fewer_steps_than_the_reference_count_as_work_saved(measured: Record) -> None:
    full = claim_of(measured).computed_share
    measured["config"]["measure"]["reference_steps"] = 2 * measured["config"]["steps"]
    assert full is not None and claim_of(measured).computed_share == pytest.approx(full / 2, rel=1e-5)


def test_other_images_without_a_figure_are_not_reproduced(measured: Record) -> None:
    measured["quality"] = None
    parts = judge(claim_of(measured), again(measured))
    assert said(parts)["images"] == NOT_REPRODUCED and verdict_of(parts) == NOT_REPRODUCED


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


def test_images_that_differ_are_no_noise(measured: Record) -> None:
    """One image takes half the other's time, again and again: a cache that hits more often, not a busy machine."""
    with_raw_seconds(measured, [1.0, 1.0, 1.0], [0.5, 0.5, 0.5])
    claim = claim_of(measured)
    assert claim.seconds is not None and claim.seconds.repeat_floor == 0
    parts = judge(claim, again(measured, lambda r: r["timing"].update(median=1.0 + 0.25)))
    assert said(parts)["seconds"] == NOT_REPRODUCED and "spread 5%" in parts[-1].text


def test_a_slow_run_is_not_reproduced_for_some_noise(measured: Record) -> None:
    claim = claim_of(measured)
    claim.seconds = ClaimedFigure(value=1.0, low=0.98, high=1.02, repeat_floor=0.05)

    def verdict(median: float) -> str | None:
        return said(judge(claim, again(measured, lambda r: r["timing"].update(median=median))))["seconds"]

    assert verdict(1.2) == WITHIN_NOISE and verdict(1.5) == NOT_REPRODUCED


@pytest.mark.parametrize("noise", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("speedup", [0.95, 1.0])
def test_no_noise_makes_a_speedup_of_none(measured: Record, speedup: float, noise: float) -> None:
    claim = claim_of(measured)
    claim.seconds = ClaimedFigure(value=1.0, low=0.9, high=1.1, repeat_floor=noise)
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
    assert said(parts) == {
        **dict.fromkeys(("images", *OF_IMAGES), REPRODUCED),
        **dict.fromkeys(("seconds", "speedup")),
    }
    assert verdict_of(parts) == REPRODUCED
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
    assert differences(claim, edited) == [OTHER_CONFIG]
    claim.versions["gone"] = "1.0"
    assert differences(claim, edited) == ["gone 1.0 -> None"]


@settings(deadline=None)
@given(value=st.floats(0.01, 1.0), half=st.floats(0.0, 0.2), floor=st.floats(0.5, 1.0), off=st.floats(-0.5, 0.5))
def test_a_verdict_never_gets_better_further_away(
    finished: tuple[Path, Record], value: float, half: float, floor: float, off: float
) -> None:
    record = deepcopy(finished[1])
    record["samples"][0]["pixels_sha256"] = "0" * 64
    claim = claim_of(finished[1])
    claim.ssim = ClaimedFigure(value=value, low=value - half, high=value + half, repeat_floor=floor)
    claim.psnr = claim.mae = claim.mae_similarity = None
    record["noise_floor"] = None
    half = min(half, CLAIMED["ssim"])
    room = max(min(1 - floor, CLAIMED["ssim"] - half), LEAST["ssim"])
    order = (REPRODUCED, WITHIN_NOISE, NOT_REPRODUCED)
    ranks = []
    for distance in (off, off * 1.5):
        record["quality"]["ssim"] = {"mean": value + distance, "ci95": None, "worst": None}
        ranks.append(order.index(said(judge(claim, record))["ssim"] or ""))
    assert ranks[0] <= ranks[1]
    rounding = 1e-4
    if off > -half:
        assert ranks[0] == 0
    elif -off > half + room + rounding:
        assert ranks[0] == 2
    elif half + rounding < -off < half + room:
        assert ranks[0] == 1


Change = Callable[[ClaimConfig], Any]
EDITED: dict[str, Change] = {
    "ssim": lambda c: vars(c.ssim).update(value=0.902),
    "mae_similarity": lambda c: vars(c.mae_similarity).update(value=0.951),
    "mae": lambda c: vars(c.mae).update(value=12.6),
    "psnr": lambda c: vars(c.psnr).update(value=30.2),
    "computed_share": lambda c: vars(c).update(computed_share=(c.computed_share or 0) - 0.002),
}
"""A figure made better, by more than nobody sees and less than the interval is wide."""
OF_IMAGES = tuple(EDITED)


@pytest.mark.parametrize("what", EDITED)
def test_the_same_images_have_the_claimed_figures(measured: Record, what: str) -> None:
    claim = claim_of(measured)
    EDITED[what](claim)
    parts = judge(claim, measured)
    assert said(parts)["images"] == REPRODUCED, "the pixels are the same"
    assert [part.what for part in parts if part.what in OF_IMAGES and part.verdict != REPRODUCED] == [what]
    assert said(parts)[what] == verdict_of(parts) == NOT_REPRODUCED


def test_of_the_same_images_a_floor_excuses_nothing(measured: Record) -> None:
    claim = claim_of(measured)
    claim.ssim = ClaimedFigure(value=0.91, low=0.88, high=0.92, worst=0.88, repeat_floor=0.5, noise_floor=0.5)
    with_another_torch(measured)
    assert said(judge(claim, measured))["ssim"] == NOT_REPRODUCED
    assert said(judge(claim, again(measured)))["ssim"] == REPRODUCED, "of others the interval counts"


@pytest.mark.parametrize(
    ("what", "off"),
    [("ssim", 5e-4), ("mae_similarity", 2e-4), ("mae", -0.05), ("psnr", 0.05), ("computed_share", -5e-4)],
)
def test_of_the_same_images_only_rounding_is_let_pass(measured: Record, what: str, off: float) -> None:
    """Elsewhere the reference may be another, by as much as nobody sees; another config is no such reason."""
    claim = claim_of(measured)
    if what == "computed_share":
        claim.computed_share = (claim.computed_share or 0) + off
    else:
        figure = getattr(claim, what)
        figure.value += off
    assert said(judge(claim, measured))[what] == NOT_REPRODUCED
    claim.fingerprint = "0" * 64
    assert said(judge(claim, measured))[what] == NOT_REPRODUCED
    with_another_torch(measured)
    parts = judge(claim, measured)
    assert said(parts)[what] == WITHIN_NOISE
    assert "the file was edited" not in headline(claim, measured, parts)


@pytest.mark.parametrize(("part", "value"), [("worst", 0.89), ("low", 0.89), ("high", 0.93)])
def test_worst_image_and_interval_are_those_of_the_same_images(measured: Record, part: str, value: float) -> None:
    claim = claim_of(measured)
    setattr(claim.ssim, part, value)
    (judged,) = (one for one in judge(claim, measured) if one.what == "ssim")
    assert judged.verdict == NOT_REPRODUCED and f"; {part} 0." in judged.text and f"claimed {value}" in judged.text
    with_another_torch(measured)
    elsewhere = said(judge(claim, measured))["ssim"]
    assert elsewhere == (NOT_REPRODUCED if part == "worst" else REPRODUCED), "another scipy may draw another interval"


def test_better_than_claimed_is_said_and_no_failure(measured: Record) -> None:
    claim = claim_of(measured)
    claim.ssim, claim.mae = ClaimedFigure(value=0.8, worst=0.7), ClaimedFigure(value=20.0)
    claim.mae_similarity = ClaimedFigure(value=1 - 20 / 255)
    claim.seconds, claim.speedup = ClaimedFigure(value=2.0), ClaimedFigure(value=1.2)
    claim.computed_share = 0.99
    parts = judge(claim, measured)
    assert verdict_of(parts) == REPRODUCED
    better = {"ssim", "mae", "mae_similarity", "seconds", "speedup", "computed_share"}
    assert {part.what for part in parts if part.better} == better


def test_more_of_the_work_than_claimed_is_not_reproduced(measured: Record) -> None:
    """Of other images a step of each is noise: it may lie on either side of a threshold."""
    claim, share = claim_of(measured), claim_of(measured).computed_share or 0
    steps = [sum(step["computed"] for step in sample["steps"]) for sample in measured["samples"]]
    one_step = share / (sum(steps) / len(steps))
    for less, verdict in ((0.0, REPRODUCED), (0.9, WITHIN_NOISE), (1.1, NOT_REPRODUCED)):
        claim.computed_share = share - less * one_step
        assert said(judge(claim, again(measured)))["computed_share"] == verdict
    assert said(judge(claim, again(measured, lambda r: r["engaged"]["cache"].update(flop_share=0.001))))[
        "computed_share"
    ] == (REPRODUCED)


def test_a_share_of_steps_is_not_judged_by_one_of_flops(measured: Record) -> None:
    claim = claim_of(measured)
    claim.computed_share = 0.1

    def change(record: Record) -> None:
        record["engaged"]["cache"].update(flop_share=None, flops_missing="no hooks")

    (judged,) = (part for part in judge(claim, again(measured, change)) if part.what == "computed_share")
    assert judged.verdict is None and "FLOPs were not counted (no hooks)" in judged.text


@pytest.mark.parametrize(
    ("psnr", "verdict"),
    [(28.0, REPRODUCED), (25.62, WITHIN_NOISE), (25.6, NOT_REPRODUCED), (None, REPRODUCED)],
)
def test_psnr_is_judged_too(measured: Record, psnr: float | None, verdict: str) -> None:
    """Claimed 28 at least; a floor of 40 dB adds to an error of 30 dB as much as 2.4 dB. None: infinite."""
    claim = claim_of(measured)
    with_another_torch(measured)
    parts = judge(claim, again(measured, lambda r: r["quality"]["psnr"].update(mean=psnr)))
    assert said(parts)["psnr"] == verdict
    assert [part.what for part in parts if part.better] == (["psnr"] if psnr is None else [])


@pytest.mark.parametrize("other_pixels", [False, True])
def test_what_was_claimed_and_not_measured_again_does_not_hold(measured: Record, other_pixels: bool) -> None:
    def change(record: Record) -> None:
        record["quality"] = None
        record["reference"] = {"kind": "none"}
        record["timing"]["speedup"] = None

    parts = judge(claim_of(measured), again(measured, change, other_pixels=other_pixels))
    missing = {part.what for part in parts if "not measured again (measure.reference=false)" in part.text}
    assert missing == {"ssim", "mae_similarity", "mae", "psnr", "speedup"}
    assert {said(parts)[what] for what in missing} == {NOT_REPRODUCED}


CONTRADICTORY: dict[str, tuple[Change, str]] = {
    "value": (lambda c: vars(c.ssim).update(value=0.99), "ssim 0.99 lies outside its own 0.88 to 0.92"),
    "interval": (lambda c: vars(c.speedup).update(low=3.0), "speedup 1.9 lies outside its own 3 to 2"),
    "worst": (lambda c: vars(c.ssim).update(worst=0.91), "ssim worst 0.91 is better than the mean 0.9"),
    "worst MAE": (lambda c: vars(c.mae).update(worst=9.0), "mae worst 9 is better than the mean 12.75"),
    "MAE": (lambda c: vars(c.mae).update(value=11.0), "mae_similarity 0.95 is not 1 - mae / 255, 0.956863"),
    "range": (lambda c: vars(c).update(ssim=ClaimedFigure(value=1.5)), "ssim 1.5 is not within -1 to 1"),
    "time": (lambda c: vars(c).update(seconds=ClaimedFigure(value=0.0)), "seconds 0 is not above 0"),
    "share": (lambda c: vars(c).update(computed_share=-0.1), "computed_share -0.1 is below 0"),
    "endless share": (lambda c: vars(c).update(computed_share=inf), "computed_share inf is not finite"),
    "endless bound": (lambda c: vars(c.seconds).update(high=inf), "seconds high inf is not finite"),
    "no number": (lambda c: vars(c.ssim).update(low=nan), "ssim low nan is not finite"),
    "endless value": (lambda c: vars(c.psnr).update(value=inf), "psnr inf is not finite"),
    "endless deviation": (lambda c: vars(c.seconds).update(repeat_floor=inf), "seconds repeat_floor inf is not finite"),
    "bound": (lambda c: vars(c.mae_similarity).update(high=1.1), "mae_similarity high 1.1 is not within 0 to 1"),
    "floor": (lambda c: vars(c.psnr).update(noise_floor=-1e308), "psnr noise_floor -1e+308 is not within 0 to 200"),
    "repeat floor": (lambda c: vars(c.mae).update(repeat_floor=300.0), "mae repeat_floor 300 is not within 0 to 255"),
    "worst of all": (lambda c: vars(c.mae).update(worst=256.0), "mae worst 256 is not within 0 to 255"),
    "lowest speed-up": (lambda c: vars(c.speedup).update(low=0.0), "speedup low 0 is not above 0"),
    "deviation": (lambda c: vars(c.seconds).update(repeat_floor=-1.0), "seconds repeat_floor -1 is below 0"),
}


@pytest.mark.parametrize("what", CONTRADICTORY)
def test_a_claim_that_contradicts_itself_is_not_reproduced(measured: Record, what: str) -> None:
    change, words = CONTRADICTORY[what]
    claim = claim_of(measured)
    assert contradictions(claim) == []
    change(claim)
    assert words in contradictions(claim)
    first = judge(claim, again(measured))[0]
    assert (first.what, first.verdict) == ("claim", NOT_REPRODUCED) and words in first.text


UNFAILING: dict[str, tuple[str, ClaimedFigure, float]] = {
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
"""Claims whose own interval or floor is so wide that nothing would be outside, and what was found."""
FOUND: dict[str, Callable[[Record, str, float], Any]] = {
    "seconds": lambda r, name, value: r["timing"].update(median=value),
    "speedup": lambda r, name, value: r["timing"].update(speedup=value),
}


def judged_alone(measured: Record, name: str, figure: ClaimedFigure, found: float) -> Judged:
    """How one figure is judged of other images, with other versions: the floor of other numerics counts too."""
    claim = claim_of(measured)
    setattr(claim, name, figure)
    found_in = FOUND.get(name, lambda r, name, value: r["quality"][name].update(mean=value))
    record = again(measured, lambda r: (with_another_torch(r), found_in(r, name, found)))
    record["noise_floor"] = None
    (part,) = (part for part in judge(claim, record) if part.what == name)
    return part


@pytest.mark.parametrize("what", UNFAILING)
def test_no_claim_is_written_so_that_it_cannot_fail(measured: Record, what: str) -> None:
    part = judged_alone(measured, *UNFAILING[what])
    assert part.verdict == NOT_REPRODUCED and ", its own interval and floors count for " in part.text, part


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
def test_a_wide_interval_over_few_prompts_counts_up_to_a_cap(
    measured: Record, name: str, value: float, wide: dict[str, float], inside: float, outside: float
) -> None:
    """And then what was measured is noise, here the least: of a time a twentieth."""
    for sample in measured["samples"]:
        sample["reference_raw_seconds"] = [2.0]
    figure = ClaimedFigure(value=value, **wide)
    good, bad = (judged_alone(measured, name, figure, found) for found in (inside, outside))
    assert (good.verdict != NOT_REPRODUCED, bad.verdict) == (True, NOT_REPRODUCED), (good, bad)
    cap = f"{CLAIMED[name]:.2g}" if name in CLAIMED else f"{MOST:.0%}"
    assert good.text.endswith(f", its own interval and floors count for {cap} at most")


def test_a_cap_that_does_not_act_is_not_mentioned(measured: Record) -> None:
    parts = judge(claim_of(measured), again(measured))
    assert verdict_of(parts) == REPRODUCED and not any("at most" in part.text for part in parts), parts


@pytest.mark.parametrize("low", [0.5, 0.99, 1.0])
@pytest.mark.parametrize("found", [0.9, 1.0])
def test_no_speedup_bears_no_claimed_one_out(measured: Record, low: float, found: float) -> None:
    part = judged_alone(measured, "speedup", ClaimedFigure(value=1.02, low=low, high=1.2), found)
    assert part.verdict == NOT_REPRODUCED and part.text.endswith(", no speed-up")
    none = judged_alone(measured, "speedup", ClaimedFigure(value=0.95, low=0.9, high=1.2), 0.94)
    assert none.verdict == REPRODUCED, "who claims none is borne out by none"


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-320, inf, -inf, nan])
@pytest.mark.parametrize("name", ["seconds", "speedup", "ssim", "mae", "psnr"])
def test_any_number_is_judged(measured: Record, name: str, value: float) -> None:
    """A stranger may write any: a verdict, no traceback, and never that it holds unless it is one a run can measure."""
    claim = claim_of(measured)
    for part in ("value", "low", "high", "repeat_floor", "noise_floor"):
        figure = deepcopy(getattr(claim, name))
        setattr(figure, part, value)
        changed = deepcopy(claim)
        setattr(changed, name, figure)
        parts = judge(changed, again(measured, with_another_torch))
        assert verdict_of(parts) == NOT_REPRODUCED or contradictions(changed) == []


@settings(deadline=None)
@given(
    values=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 255), st.floats(0.001, 1e3)), min_size=2, max_size=2),
    same_prompt=st.booleans(),
)
def test_no_run_contradicts_itself(
    finished: tuple[Path, Record], values: list[tuple[float, float, float]], same_prompt: bool
) -> None:
    record = deepcopy(finished[1])
    for sample, (ssim, mae, seconds) in zip(record["samples"], values, strict=True):
        sample["quality"] = {"ssim": ssim, "mae": mae, "mae_similarity": 1 - mae / 255, "psnr": None}
        sample |= {"seconds": seconds, "raw_seconds": [seconds, seconds * 1.5], "reference_seconds": 1.0}
        sample["prompt"] = "one" if same_prompt else sample["prompt"]
    times = [one for sample in record["samples"] for one in sample["raw_seconds"]]
    record["timing"] |= summarize_timings(times) | {"speedup": 1 / summarize_timings(times)["median"], "same_run": True}
    record["quality"] = summarize_metrics([sample["quality"] for sample in record["samples"]])
    claim = claim_of(record)
    assert contradictions(claim) == []
    assert {part.verdict for part in judge(claim, record)} == {REPRODUCED}


@pytest.mark.parametrize(("speedup", "share", "wrong"), [(2.2, 0.5, False), (2.4, 0.5, True), (9.0, 0.56, True)])
def test_a_speedup_above_what_the_claimed_share_allows_contradicts_itself(
    measured: Record, monkeypatch: pytest.MonkeyPatch, speedup: float, share: float, wrong: bool
) -> None:
    monkeypatch.setattr("wavespeed_runner.metrics.timing.TOO_FAST", 1.15)
    claim = claim_of(measured)
    claim.speedup, claim.computed_share = ClaimedFigure(value=speedup), share
    said = [part.text for part in judge(claim, measured) if part.what == "claim"]
    assert bool(said) is wrong
    assert not wrong or f"speedup {speedup:g} cannot be where a share of {share:g} is computed" in said[0]
