"""A claim is judged on prompts or seeds that are not its own: met, not met, or not settled."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.sharing.claim_helpers import Record, build_claim, get_verdicts
from tests.sharing.replay_helpers import Finished, Replay, ReplayText, first_image, set_figures
from wavespeed_runner.config.claim import ClaimConfig, ClaimedFigure
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.sharing import other_prompts
from wavespeed_runner.sharing.other_prompts import MET, NOT_MET, NOT_SETTLED

SAFE = {"seconds": "{value: 1000.0}", "speedup": "{value: 0.0001}"}
LOOSE = SAFE | {
    "ssim": "{value: -0.9}", "mae": "{value: 250.0}", "mae_similarity": "{value: 0.0196078}", "psnr": "{value: 1.0}",
    "computed_share": "9.0",
}  # fmt: skip
"""Figures that any images keep."""


def spread(measured: Record, ssims: list[float]) -> Record:
    """A run of as many prompts as SSIMs, all other figures as good as claimed."""
    record = deepcopy(measured)
    first = measured["samples"][0]
    record["plan"]["prompts"] = [f"prompt {number}" for number in range(len(ssims))]
    record["samples"] = [
        {**deepcopy(first), "prompt": prompt, "quality": {**first["quality"], "ssim": ssim}}
        for prompt, ssim in zip(record["plan"]["prompts"], ssims, strict=True)
    ]
    return record


def judge(claim: ClaimConfig, record: Record) -> tuple[str, dict[str, str | None], str]:
    """The verdict, those of the parts, and the headline."""
    read = record_from_data(record)
    parts = other_prompts.judge_claim(claim, read)
    line = other_prompts.format_judgement(claim, read, parts)
    return other_prompts.combine_judgements(parts), get_verdicts(parts), line


def claim_of(measured: Record, **figures: Any) -> ClaimConfig:
    claim = build_claim(measured)
    for key in ("mae", "mae_similarity", "psnr", "seconds", "speedup", "computed_share"):
        setattr(claim, key, None)
    for key, value in figures.items():
        setattr(claim, key, value)
    return claim


FIGURE = ClaimedFigure(value=0.95, low=0.94, high=0.96)


@pytest.mark.parametrize(
    ("ssims", "verdict"),
    [
        ([0.95, 0.951, 0.949, 0.95] * 4, MET),
        ([0.9391, 0.9392] * 8, MET),  # within what nobody sees of the bound
        ([0.90, 0.91] * 8, NOT_MET),
        ([0.90, 0.99, 0.93, 0.96] * 3, NOT_SETTLED),
        ([0.95, 0.93], NOT_SETTLED),  # two prompts say little: a t interval of one degree of freedom
        ([0.99], NOT_SETTLED),  # one says nothing
    ],
)
def test_a_mean_is_judged_by_its_interval(measured: Record, ssims: list[float], verdict: str) -> None:
    measured["noise_floor"] = None
    found, parts, line = judge(claim_of(measured, ssim=FIGURE), spread(measured, ssims))
    assert found == parts["ssim"] == verdict
    assert line.startswith(f"{verdict}{'' if verdict == MET else ' (ssim)'} on {len(ssims)} other prompts")
    assert ("more prompts settle it" in line) == (verdict == NOT_SETTLED)


def test_less_is_better_for_some(measured: Record) -> None:
    measured["noise_floor"] = None
    record = spread(measured, [0.95] * 8)
    for sample, mae in zip(record["samples"], [5.0, 5.2] * 4, strict=True):
        sample["quality"]["mae"] = mae
    for claimed, verdict in ((6.0, MET), (5.1, MET), (4.9, NOT_MET), (5.0, NOT_SETTLED)):
        claim = claim_of(measured, ssim=FIGURE, mae=ClaimedFigure(value=claimed))
        assert judge(claim, record)[1]["mae"] == verdict, claimed


def test_a_claim_that_says_too_little_of_itself_counts_up_to_a_cap(measured: Record) -> None:
    measured["noise_floor"] = None
    claim = claim_of(measured, ssim=ClaimedFigure(value=0.95, low=0.0, high=1.0, repeat_floor=0.1))
    assert judge(claim, spread(measured, [0.80, 0.81] * 8))[0] == NOT_MET


Change = Callable[[ClaimConfig], Any]
WRONG: dict[str, tuple[Change, str]] = {
    "contradicts itself": (lambda c: setattr(c, "ssim", ClaimedFigure(value=0.9, worst=0.95)), "contradicts itself"),
    "another reference": (lambda c: setattr(c, "reference", "3 steps of heun"), "not met"),
    "not measured": (lambda c: setattr(c, "psnr", ClaimedFigure(value=30.0)), "not met (psnr)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_hold_is_not_met(measured: Record, name: str) -> None:
    change, words = WRONG[name]
    claim, record = claim_of(measured, ssim=FIGURE), spread(measured, [0.95] * 8)
    if name == "not measured":
        record["quality"] = None
    change(claim)
    verdict, _, line = judge(claim, record)
    assert (verdict == NOT_MET and words in line) or "(ssim, psnr)" in line


def test_identical_images_meet_any_claim(measured: Record) -> None:
    record = spread(measured, [1.0] * 8)
    for sample in record["samples"]:
        sample["quality"]["psnr"] = None
    claim = claim_of(measured, ssim=FIGURE, psnr=ClaimedFigure(value=40.0))
    assert judge(claim, record)[1]["psnr"] == MET


def test_times_are_judged_on_the_same_hardware_only(measured: Record) -> None:
    record = spread(measured, [0.95] * 8)
    claim = claim_of(measured, ssim=FIGURE, seconds=ClaimedFigure(value=1.0, low=0.9, high=1.1))
    assert judge(claim, record)[1]["seconds"] == MET
    record["timing"]["median"] = 1.9
    for sample in record["samples"]:
        sample["raw_seconds"] = [1.9]
    assert judge(claim, record)[1]["seconds"] == NOT_MET
    claim.device_name = "another"
    assert judge(claim, record)[1]["seconds"] is None


def test_replay_judges_on_other_prompts(text: str, replay_text: ReplayText, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("a green star\na yellow square\na blue circle\n")
    status, out, _ = replay_text(set_figures(text, **LOOSE), "prompts.path=other.txt", "seed=99")
    assert status == 0 and "\nreplay: met on 3 other prompts\n" in out, out
    assert "images          3 of 3 prompts, claimed on 2 of 2" in out
    assert re.search(r"  ssim +\S+ \(95 %: \S+ to \S+\), claimed -0\.9: at least -0\.901 is needed: met\n", out), out
    status, out, _ = replay_text(set_figures(text, **LOOSE | {"ssim": "{value: 0.9999}"}), "prompts.path=other.txt")
    assert status == 1 and "\nreplay: not " in out and "ssim" in out.partition("replay: ")[2].partition("\n")[0]


def test_replay_judges_with_another_seed(text: str, replay_text: ReplayText) -> None:
    status, out, _ = replay_text(set_figures(text, **LOOSE), "seed=99")
    assert status == 0 and "\nreplay: met on other seeds\n" in out, out
    assert "reproduced" in replay_text(text, "seed=0")[1], "the claim's own seed"


def test_a_seed_is_for_a_claim(finished: Finished, replay: Replay, text: str, tmp_path: Path) -> None:
    for file in (first_image(finished), finished[0] / "record.json"):
        status, out, err = replay(file, "seed=9")
        assert (status, out) == (2, "") and f"from={file} seed=9 runs the same settings with another seed" in err
    (tmp_path / "mine.yaml").write_text(text)
    for seed in ("-1", "x", "1e3", str(2**64)):
        status, _, err = replay(tmp_path / "mine.yaml", f"seed={seed}")
        assert status == 2 and "a whole number from 0 to 2**64 - 1" in err
