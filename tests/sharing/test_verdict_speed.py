"""Verdicts on seconds and speed-ups: the spread of repeats, its cap, and different hardware."""

from __future__ import annotations

import pytest

from tests.sharing.claim_helpers import (
    IMAGE_FIGURES,
    Record,
    build_claim,
    change_record,
    format_headline,
    get_verdicts,
    set_raw_seconds,
    verify_claim,
    verify_figure,
)
from wavespeed_runner.config.claim import ClaimedFigure
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.sharing.export import format_experiment
from wavespeed_runner.sharing.parts import NOT_REPRODUCED, REPRODUCED, WITHIN_NOISE
from wavespeed_runner.sharing.verdict import combine_verdicts


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [(0.2, REPRODUCED), (1.1, REPRODUCED), (1.1 + 0.23, WITHIN_NOISE), (1.1 + 0.24, NOT_REPRODUCED)],
)
def test_a_time_is_compared_with_the_spread_of_repeats(measured: Record, seconds: float, verdict: str) -> None:
    """Three robust standard deviations: 3 * 1.4826 * 0.05 = 0.222, of 1.05."""
    parts = verify_claim(build_claim(measured), change_record(measured, lambda r: r["timing"].update(median=seconds)))
    assert get_verdicts(parts)["seconds"] == verdict


@pytest.mark.parametrize(("speedup", "verdict"), [(9.0, REPRODUCED), (1.732, WITHIN_NOISE), (1.731, NOT_REPRODUCED)])
def test_without_a_known_spread_five_percent_is_noise(measured: Record, speedup: float, verdict: str) -> None:
    """At least 1.818 is claimed; five percent less is 1.732."""
    for sample in measured["samples"]:
        sample["reference_raw_seconds"] = [2.0]
    parts = verify_claim(build_claim(measured), change_record(measured, lambda r: r["timing"].update(speedup=speedup)))
    assert get_verdicts(parts)["speedup"] == verdict and combine_verdicts(parts) == verdict


@pytest.mark.parametrize(("seconds", "words"), [(0.5, "less busy or faster"), (1.2, "busier or slower")])
def test_the_explanation_of_a_speed_fits_the_time(measured: Record, seconds: float, words: str) -> None:
    """The speed-up is within noise; the time is far better than claimed, or worse."""
    change = {"median": seconds, "speedup": 1.75}
    record = change_record(measured, lambda r: r["timing"].update(change), other_pixels=False)
    claim = build_claim(measured)
    parts = verify_claim(claim, record)
    assert get_verdicts(parts)["speedup"] == WITHIN_NOISE
    told = format_headline(claim, record, parts)
    assert f"nothing else differs: this machine is {words} than it was" in told, told
    assert ("better than claimed: seconds" in told) == (seconds < 1)


def test_time_differences_between_images_are_not_noise(measured: Record) -> None:
    """One image always takes half the time of the other: more cache hits, not a busy machine."""
    set_raw_seconds(measured, [1.0, 1.0, 1.0], [0.5, 0.5, 0.5])
    claim = build_claim(measured)
    assert claim.seconds is not None and claim.seconds.repeat_floor == 0
    parts = verify_claim(claim, change_record(measured, lambda r: r["timing"].update(median=1.0 + 0.25)))
    assert get_verdicts(parts)["seconds"] == NOT_REPRODUCED and "spread 5%" in parts[-1].text


def test_a_slow_run_is_not_reproduced_despite_noise(measured: Record) -> None:
    claim = build_claim(measured)
    claim.seconds = ClaimedFigure(value=1.0, low=0.98, high=1.02, repeat_floor=0.05)

    def verdict(median: float) -> str | None:
        return get_verdicts(verify_claim(claim, change_record(measured, lambda r: r["timing"].update(median=median))))[
            "seconds"
        ]

    assert verdict(1.2) == WITHIN_NOISE and verdict(1.5) == NOT_REPRODUCED


@pytest.mark.parametrize("noise", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("speedup", [0.95, 1.0])
def test_no_speedup_is_never_within_noise_of_a_claimed_one(measured: Record, speedup: float, noise: float) -> None:
    claim = build_claim(measured)
    claim.seconds = ClaimedFigure(value=1.0, low=0.9, high=1.1, repeat_floor=noise)
    for low in (1.9, 1.01):
        claim.speedup = ClaimedFigure(value=low + 0.1, low=low, high=low + 0.2)
        parts = verify_claim(claim, change_record(measured, lambda r: r["timing"].update(speedup=speedup)))
        assert get_verdicts(parts)["speedup"] == NOT_REPRODUCED


def test_noise_of_a_busy_machine_is_capped(measured: Record) -> None:
    """At most a quarter of a time is noise, so 2.0 becomes 1.6."""
    set_raw_seconds(measured, [0.4, 1.0, 3.0], [0.4, 1.0, 3.0])
    claim = build_claim(measured)
    claim.speedup = ClaimedFigure(value=2.1, low=2.0, high=2.2)
    for speedup, verdict in ((1.601, WITHIN_NOISE), (1.599, NOT_REPRODUCED)):
        measured["timing"]["speedup"] = speedup
        assert get_verdicts(verify_claim(claim, change_record(measured)))["speedup"] == verdict


def test_speed_is_not_verified_on_different_hardware(measured: Record) -> None:
    def change(record: Record) -> None:
        record["environment"]["device_name"] = "another"
        record["timing"] |= {"median": 99.0, "speedup": 0.1}

    record = change_record(measured, change, other_pixels=False)
    parts = verify_claim(build_claim(measured), record)
    assert get_verdicts(parts) == {
        **dict.fromkeys(("images", *IMAGE_FIGURES), REPRODUCED),
        **dict.fromkeys(("seconds", "speedup")),
    }
    assert combine_verdicts(parts) == REPRODUCED
    assert "not comparable: different hardware" in parts[-1].text


@pytest.mark.parametrize("low", [0.5, 0.99, 1.0])
@pytest.mark.parametrize("measured_value", [0.9, 1.0])
def test_a_claimed_speedup_needs_a_speedup(measured: Record, low: float, measured_value: float) -> None:
    part = verify_figure(measured, "speedup", ClaimedFigure(value=1.02, low=low, high=1.2), measured_value)
    assert part.verdict == NOT_REPRODUCED and part.text.endswith(", no speed-up")
    none = verify_figure(measured, "speedup", ClaimedFigure(value=0.95, low=0.9, high=1.2), 0.94)
    assert none.verdict == REPRODUCED, "a claim of no speed-up is reproduced by none"


@pytest.fixture
def timed_once(measured: Record) -> Record:
    """One image, timed once, as its reference is."""
    measured["samples"] = measured["samples"][:1]
    measured["timing"] |= {"raw": [1.0], "median": 1.0, "mad": 0.0, "speedup": 2.0}
    measured["samples"][0]["reference_raw_seconds"] = [2.0]
    measured["noise_floor"] = None
    return measured


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(0.9, REPRODUCED), (1.06, WITHIN_NOISE), (1.24, WITHIN_NOISE), (1.26, NOT_REPRODUCED)]
)
def test_of_a_single_timing_nobody_knows_the_spread(timed_once: Record, seconds: float, verdict: str) -> None:
    claim = build_claim(timed_once)
    assert claim.seconds == ClaimedFigure(value=1.0) and claim.speedup == ClaimedFigure(value=2.0)
    now = change_record(timed_once, lambda r: r["timing"].update(median=seconds, speedup=2 / seconds))
    parts = {part.name: part for part in verify_claim(claim, now)}
    assert parts["seconds"].verdict == parts["speedup"].verdict == verdict
    assert "spread 25%, claimed from a single timing, whose spread nobody knows" in parts["seconds"].text
    # As earlier versions wrote it.
    claim.seconds = ClaimedFigure(value=1.0, low=1.0, high=1.0, mad=0.0)
    assert get_verdicts(verify_claim(claim, now))["seconds"] == verdict


def test_an_exported_claim_of_a_single_timing_says_so(timed_once: Record) -> None:
    text = format_experiment(record_from_data(timed_once), "mine")
    assert "1 s per image (a single timing)" in text
    assert "  seconds: {value: 1.0}    # of one image, timed once: how much it varies is not known" in text
    several = change_record(timed_once, lambda r: r["samples"][0].update(raw_seconds=[1.0, 1.1]))
    several["timing"]["raw"] = [1.0, 1.1]
    assert "single" not in format_experiment(record_from_data(several), "mine")
