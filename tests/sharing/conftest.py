"""What tests of claims share."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

from tests.sharing.claim_helpers import (
    Record,
)
from wavespeed_runner.metrics.quality import summarize_metrics


@pytest.fixture
def measured(finished: tuple[Path, Record]) -> Record:
    """The finished run, with round figures instead of the measured ones."""
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
