"""Seconds of an image in a batch that is filled up with copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import run_as_data
from wavespeed_runner.planning.plan import Plan

Planned = Callable[..., Plan]


def test_images_alone_pay_for_a_batch_that_copies_fill(planned: Planned, tmp_path: Path) -> None:
    record = run_as_data(planned("batch_size=4"), tmp_path / "run", [])
    (denoised,) = [stage for stage in record["stages"] if stage["name"] == "denoise"]
    assert record["samples"][0]["seconds"] > denoised["seconds"] / 2, "not a quarter of it"
