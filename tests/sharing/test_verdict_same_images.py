"""Verdicts where the images are the same, and on figures that are better than claimed or missing."""

from __future__ import annotations

import pytest

from tests.sharing.claim_helpers import (
    IMAGE_FIGURES,
    IMPROVED,
    Record,
    build_claim,
    change_record,
    find_differences,
    format_headline,
    get_verdicts,
    use_another_torch,
    verify_claim,
)
from wavespeed_runner.config.claim import ClaimedFigure
from wavespeed_runner.sharing.parts import NOT_REPRODUCED, REPRODUCED, WITHIN_NOISE
from wavespeed_runner.sharing.verdict import combine_verdicts


def test_the_same_run_is_reproduced(measured: Record) -> None:
    parts = verify_claim(build_claim(measured), measured)
    assert get_verdicts(parts) == dict.fromkeys(("images", *IMAGE_FIGURES, "seconds", "speedup"), REPRODUCED)
    assert combine_verdicts(parts) == REPRODUCED and find_differences(build_claim(measured), measured) == []


@pytest.mark.parametrize("what", IMPROVED)
def test_an_edited_figure_of_the_same_images_is_not_reproduced(measured: Record, what: str) -> None:
    claim = build_claim(measured)
    IMPROVED[what](claim)
    parts = verify_claim(claim, measured)
    assert get_verdicts(parts)["images"] == REPRODUCED, "the pixels are the same"
    assert [part.name for part in parts if part.name in IMAGE_FIGURES and part.verdict != REPRODUCED] == [what]
    assert get_verdicts(parts)[what] == combine_verdicts(parts) == NOT_REPRODUCED


def test_noise_floors_do_not_count_for_the_same_images(measured: Record) -> None:
    claim = build_claim(measured)
    claim.ssim = ClaimedFigure(value=0.91, low=0.88, high=0.92, worst=0.88, repeat_floor=0.5, noise_floor=0.5)
    use_another_torch(measured)
    assert get_verdicts(verify_claim(claim, measured))["ssim"] == NOT_REPRODUCED
    assert get_verdicts(verify_claim(claim, change_record(measured)))["ssim"] == REPRODUCED, (
        "the interval counts for different images"
    )


@pytest.mark.parametrize(
    ("what", "off"),
    [("ssim", 5e-4), ("mae_similarity", 2e-4), ("mae", -0.05), ("psnr", 0.05), ("computed_share", -5e-4)],
)
def test_only_rounding_is_allowed_for_the_same_images(measured: Record, what: str, off: float) -> None:
    """With other versions the reference may differ invisibly; a different fingerprint is not a reason."""
    claim = build_claim(measured)
    if what == "computed_share":
        claim.computed_share = (claim.computed_share or 0) + off
    else:
        figure = getattr(claim, what)
        figure.value += off
    assert get_verdicts(verify_claim(claim, measured))[what] == NOT_REPRODUCED
    claim.fingerprint = "0" * 64
    assert get_verdicts(verify_claim(claim, measured))[what] == NOT_REPRODUCED
    use_another_torch(measured)
    parts = verify_claim(claim, measured)
    assert get_verdicts(parts)[what] == WITHIN_NOISE
    assert "the file was edited" not in format_headline(claim, measured, parts)


@pytest.mark.parametrize(
    ("field", "value"), [("worst", 0.89), ("median", 0.905), ("p10", 0.89), ("low", 0.89), ("high", 0.93)]
)
def test_worst_image_and_interval_are_compared_for_the_same_images(measured: Record, field: str, value: float) -> None:
    claim = build_claim(measured)
    setattr(claim.ssim, field, value)
    (ssim,) = (part for part in verify_claim(claim, measured) if part.name == "ssim")
    assert ssim.verdict == NOT_REPRODUCED and f"; {field} 0." in ssim.text and f"claimed {value}" in ssim.text
    use_another_torch(measured)
    elsewhere = get_verdicts(verify_claim(claim, measured))["ssim"]
    assert elsewhere == (NOT_REPRODUCED if field in ("worst", "median", "p10") else REPRODUCED), (
        "another scipy may draw other samples"
    )


def test_better_than_claimed_is_reported_and_does_not_fail(measured: Record) -> None:
    claim = build_claim(measured)
    claim.ssim, claim.mae = ClaimedFigure(value=0.8, worst=0.7), ClaimedFigure(value=20.0)
    claim.mae_similarity = ClaimedFigure(value=1 - 20 / 255)
    claim.seconds, claim.speedup = ClaimedFigure(value=2.0), ClaimedFigure(value=1.2)
    claim.computed_share = 0.99
    parts = verify_claim(claim, measured)
    assert combine_verdicts(parts) == REPRODUCED
    better = {"ssim", "mae", "mae_similarity", "seconds", "speedup", "computed_share"}
    assert {part.name for part in parts if part.better} == better


@pytest.mark.parametrize("other_pixels", [False, True])
def test_a_claimed_figure_that_is_not_measured_again_is_not_reproduced(measured: Record, other_pixels: bool) -> None:
    def change(record: Record) -> None:
        record["quality"] = None
        record["reference"] = {"kind": "none"}
        record["timing"]["speedup"] = None

    parts = verify_claim(build_claim(measured), change_record(measured, change, other_pixels=other_pixels))
    missing = {part.name for part in parts if "not measured again (measure.reference=false)" in part.text}
    assert missing == {"ssim", "mae_similarity", "mae", "psnr", "forks", "speedup"}
    assert {get_verdicts(parts)[what] for what in missing} == {NOT_REPRODUCED}


def test_forks_are_compared_for_the_same_images_alone(measured: Record) -> None:
    claim = build_claim(measured)
    (forks,) = (part for part in verify_claim(claim, change_record(measured)) if part.name == "forks")
    assert forks.verdict is None and forks.text == "1 of 2, claimed 1 of 2; not compared: other images"
    claim.forks = 2
    (forks,) = (part for part in verify_claim(claim, measured) if part.name == "forks")
    assert (forks.verdict, forks.better) == (REPRODUCED, True)
    assert "these figures are not: forks" in format_headline(claim, measured, verify_claim(claim, measured))
    claim.forks = None
    assert "forks" not in get_verdicts(verify_claim(claim, measured)), "as of a claim of an earlier version"


@pytest.mark.parametrize(("ssim", "verdict"), [(0.8995, WITHIN_NOISE), (0.89, NOT_REPRODUCED)])
def test_an_image_at_the_limit_may_become_a_fork_in_another_environment(
    measured: Record, ssim: float, verdict: str
) -> None:
    claim = build_claim(measured)

    def change(record: Record) -> None:
        record["samples"][0]["quality"]["ssim"] = ssim
        use_another_torch(record)

    changed = change_record(measured, change, other_pixels=False)
    assert get_verdicts(verify_claim(claim, changed))["forks"] == verdict
