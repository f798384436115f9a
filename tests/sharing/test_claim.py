"""Claims: which figures a record supports, what differs from a claim, and which claims contradict themselves."""

from __future__ import annotations

import time
from copy import deepcopy
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sharing.claim_helpers import (
    Change,
    Record,
    build_claim,
    change_record,
    find_differences,
    verify_claim,
)
from wavespeed_runner.config.claim import ClaimedFigure
from wavespeed_runner.metrics.quality import summarize_metrics
from wavespeed_runner.metrics.timing import summarize_timings
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.records.summary import summarize_record
from wavespeed_runner.sharing.claim import CONFIG_DIFFERS, compute_time_deviation, find_contradictions
from wavespeed_runner.sharing.parts import NOT_REPRODUCED, REPRODUCED


def test_a_claim_is_what_was_measured(measured: Record) -> None:
    claim = build_claim(measured)
    assert claim.seconds == ClaimedFigure(value=1.05, low=1.0, high=1.1, mad=0.05, repeat_floor=0.0525)
    assert claim.speedup == ClaimedFigure(value=1.9, low=1.81818, high=2.0)
    spread = {"median": 0.9, "p10": 0.884, "worst": 0.88}
    assert claim.ssim == ClaimedFigure(value=0.9, low=0.88, high=0.92, **spread, noise_floor=0.97, repeat_floor=1.0)
    assert claim.forks == 1, "0.88 is below 0.9"
    assert claim.mae is not None and claim.mae.worst == 15.3
    assert (claim.mae.noise_floor, claim.mae.repeat_floor) == (1.0, 0.0)
    assert claim.psnr is not None and (claim.psnr.noise_floor, claim.psnr.repeat_floor) == (40.0, None)
    assert (claim.prompts, len(claim.pixels_sha256)) == (2, 2) and claim.versions["torch"]
    assert claim.computed_share == pytest.approx(measured["engaged"]["cache"]["flop_share"], rel=1e-5)


def test_a_speedup_that_is_a_guess_is_not_claimed(measured: Record) -> None:
    measured["timing"]["same_run"] = False
    assert build_claim(measured).speedup is None and build_claim(measured).seconds is not None


def test_identical_images_have_no_psnr(measured: Record) -> None:
    for sample in measured["samples"]:
        sample["quality"]["psnr"] = None
    assert build_claim(measured).psnr is None


def test_intervals_are_those_of_the_report(measured: Record) -> None:
    """All seeds of a prompt are drawn together: similar images within a prompt do not narrow the interval."""
    samples = measured["samples"] = [deepcopy(sample) for sample in measured["samples"] for _ in range(8)]
    for number, sample in enumerate(samples):
        sample["seed"] = number % 8
        sample["quality"]["ssim"] += 0.001 * (number % 8)
    measured["quality"] = summarize_metrics([sample["quality"] for sample in samples])
    claim, summary = build_claim(measured), summarize_record(record_from_data(measured))
    for figure, interval in ((claim.ssim, summary.quality["ssim"].mean), (claim.seconds, summary.seconds)):
        assert figure is not None
        assert (figure.low, figure.high) == (
            pytest.approx(interval.low, rel=1e-5),
            pytest.approx(interval.high, rel=1e-5),
        )
    low, high = measured["quality"]["ssim"]["ci95"]
    assert claim.ssim is not None and claim.ssim.high - claim.ssim.low > 1.5 * (high - low)  # type: ignore[operator]


def test_fewer_steps_than_the_reference_lower_the_computed_share(measured: Record) -> None:
    full = build_claim(measured).computed_share
    measured["config"]["measure"]["reference_steps"] = 2 * measured["config"]["steps"]
    assert full is not None and build_claim(measured).computed_share == pytest.approx(full / 2, rel=1e-5)


def test_a_claim_says_what_its_figures_are_against(measured: Record) -> None:
    claim, steps = build_claim(measured), measured["config"]["steps"]
    assert claim.reference == f"{steps} steps of default" and not find_differences(claim, measured)
    other = change_record(measured, lambda r: r["reference"].update(sampler={"name": "unipc", "shift": 3.0}))
    assert find_differences(claim, other) == [f"reference {claim.reference} -> {steps} steps of unipc, shift 3.0"]
    (verdict,) = (part for part in verify_claim(claim, other) if part.name == "reference")
    assert verdict.verdict == "not reproduced" and "unipc" in verdict.text
    assert "reference" not in [part.name for part in verify_claim(claim, measured)]
    claim.reference = None  # of an earlier version
    assert "reference" not in [part.name for part in verify_claim(claim, other)]


def test_differences_are_named(measured: Record) -> None:
    claim = build_claim(measured)

    def change(record: Record) -> None:
        record["environment"]["versions"]["torch"] = "0.1"
        record["environment"]["code"] = "mine"
        record["plan"]["prompts"] = ["another"]

    names = find_differences(claim, change_record(measured, change))
    assert names[0] == "different prompts" and any(f"torch {claim.versions['torch']} -> 0.1" in name for name in names)
    assert any(name.endswith("-> mine") for name in names)
    edited = change_record(measured, lambda r: r.update(fingerprint="0" * 64))
    assert find_differences(claim, edited) == [CONFIG_DIFFERS]
    claim.versions["gone"] = "1.0"
    assert find_differences(claim, edited) == ["gone 1.0 -> None"]


CONTRADICTORY: dict[str, tuple[Change, str]] = {
    "value": (lambda c: vars(c.ssim).update(value=0.99), "ssim 0.99 is outside its own interval, 0.88 to 0.92"),
    "interval": (lambda c: vars(c.speedup).update(low=3.0), "speedup 1.9 is outside its own interval, 3 to 2"),
    "worst": (lambda c: vars(c.ssim).update(worst=0.91), "ssim worst 0.91 is better than the mean 0.9"),
    "tail": (lambda c: vars(c.ssim).update(p10=0.905), "ssim p10 0.905 is better than the median 0.9"),
    "worst of the tail": (lambda c: vars(c.mae).update(p10=15.5), "mae worst 15.3 is better than the p10 15.5"),
    "negative forks": (lambda c: vars(c).update(forks=-1), "forks -1 is not within 0 to 2, the number of images"),
    "forks": (lambda c: vars(c).update(forks=3), "forks 3 is not within 0 to 2, the number of images"),
    "no fork": (
        lambda c: vars(c).update(forks=0),
        "forks 0 does not fit ssim worst 0.88: a fork is an image below 0.9",
    ),
    "a fork": (
        lambda c: vars(c).update(ssim=ClaimedFigure(value=0.95, worst=0.91)),
        "forks 1 does not fit ssim worst 0.91: a fork is an image below 0.9",
    ),
    "worst MAE": (lambda c: vars(c.mae).update(worst=9.0), "mae worst 9 is better than the mean 12.75"),
    "MAE": (lambda c: vars(c.mae).update(value=11.0), "mae_similarity 0.95 is not 1 - mae / 255, 0.956863"),
    "range": (lambda c: vars(c).update(ssim=ClaimedFigure(value=1.5)), "ssim 1.5 is not within -1 to 1"),
    "time": (lambda c: vars(c).update(seconds=ClaimedFigure(value=0.0)), "seconds 0 is not above 0"),
    "share": (lambda c: vars(c).update(computed_share=-0.1), "computed_share -0.1 is below 0"),
    "infinite share": (lambda c: vars(c).update(computed_share=inf), "computed_share inf is not finite"),
    "infinite bound": (lambda c: vars(c.seconds).update(high=inf), "seconds high inf is not finite"),
    "no number": (lambda c: vars(c.ssim).update(low=nan), "ssim low nan is not finite"),
    "infinite value": (lambda c: vars(c.psnr).update(value=inf), "psnr inf is not finite"),
    "infinite deviation": (
        lambda c: vars(c.seconds).update(repeat_floor=inf),
        "seconds repeat_floor inf is not finite",
    ),
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
    claim = build_claim(measured)
    assert find_contradictions(claim) == []
    change(claim)
    assert words in find_contradictions(claim)
    first = verify_claim(claim, change_record(measured))[0]
    assert (first.name, first.verdict) == ("claim", NOT_REPRODUCED) and words in first.text


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
        sample["prompt"] = "a prompt" if same_prompt else sample["prompt"]
    times = [seconds for sample in record["samples"] for seconds in sample["raw_seconds"]]
    record["timing"] |= summarize_timings(times) | {"speedup": 1 / summarize_timings(times)["median"], "same_run": True}
    record["quality"] = summarize_metrics([sample["quality"] for sample in record["samples"]])
    claim = build_claim(record)
    assert find_contradictions(claim) == []
    assert {part.verdict for part in verify_claim(claim, record)} == {REPRODUCED}


@pytest.mark.parametrize(
    ("speedup", "share", "ranks", "wrong"),
    [(2.2, 0.5, 1, False), (2.4, 0.5, 1, True), (9.0, 0.56, 1, True), (2.4, 0.5, 2, False), (9.0, 0.5, 4, False)],
)
def test_a_speedup_that_the_claimed_share_does_not_allow_contradicts_it(
    measured: Record, monkeypatch: pytest.MonkeyPatch, speedup: float, share: float, ranks: int, wrong: bool
) -> None:
    monkeypatch.setattr("wavespeed_runner.metrics.timing.TOO_FAST", 1.15)
    measured["engaged"]["parallel"] = {"ranks": [{"rank": rank} for rank in range(ranks)]} if ranks > 1 else None
    claim = build_claim(measured)
    claim.speedup, claim.computed_share = ClaimedFigure(value=speedup), share
    texts = [part.text for part in verify_claim(claim, measured) if part.name == "claim"]
    assert bool(texts) is wrong
    assert not wrong or f"speedup {speedup:g} is impossible when a share of {share:g} is computed" in texts[0]


def test_the_deviation_of_many_repetitions_is_found_soon() -> None:
    raw = [1.0 + (i * 7919 % 1000) / 1000 for i in range(20_000)]
    record: Any = SimpleNamespace(samples=[SimpleNamespace(raw_seconds=raw, reference_raw_seconds=None)] * 2)
    began = time.process_time()
    assert compute_time_deviation(record) == pytest.approx(1 / 6, rel=0.01)
    assert time.process_time() - began < 1
