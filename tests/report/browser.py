"""Helpers of the tests that open `report.html` in a browser."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic
from typing import Any

from wavespeed_runner.report.rows import Sweep


def until(window: Any, expression: str) -> None:
    """Waits. (`wait_for_function` would need what the page's policy forbids.)"""
    end = monotonic() + 10
    while not window.evaluate(expression):
        assert monotonic() < end, expression
        window.wait_for_timeout(20)


def pairs(sweep: Sweep) -> Sweep:
    """`points` of fewer steps and two thresholds, for two seeds each; the last one is missing."""
    points = [{"cache": "none", "steps": "8"}, *({"cache": "fbcache", "threshold": one} for one in ("0.1", "0.3"))]
    axes = [
        {"cache": "", "steps": "", "threshold": "", **point, "seed": str(seed)} for point in points for seed in (1, 2)
    ]
    rows = [
        replace(sweep.rows[number % 5], job=str(number), axes=own, label=str(number), rival=own["cache"] == "none")
        for number, own in enumerate(axes)
    ]
    rows[-1] = replace(rows[-1], status="missing", record=None, quality={}, seconds=None)
    return replace(sweep, rows=rows, axes=["cache", "steps", "threshold", "seed"])
