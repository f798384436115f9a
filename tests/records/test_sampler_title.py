"""What a sampler is called in titles and tables."""

from __future__ import annotations

from wavespeed_runner.records.reference import describe_sampler


def test_options_that_are_not_at_their_defaults_stand_behind_the_name() -> None:
    assert describe_sampler({"name": "unipc", "order": 2, "shift": 1.65}) == "unipc, shift 1.65"


def test_a_fitted_sampler_goes_by_its_name() -> None:
    numbers = {"timesteps": [900.0], "noise_weights": [1.0], "output_weights": [[-1.0]], "noise_scale": 0.9}
    assert (
        describe_sampler({"name": "fitted", "calibration": None, "calibrated_for": "model=flux", **numbers}) == "fitted"
    )
