"""Records for tests, with values that do not matter where a test gives none."""

from __future__ import annotations

from typing import Any

from wavespeed_runner.records.record import Environment, PlanSummary, Record, Reference, Timing
from wavespeed_runner.records.sample import CacheEvidence, Engaged, SampleRecord


def sample_record(**values: Any) -> SampleRecord:
    """An image that was computed, without a reference."""
    usual: dict[str, Any] = {
        "prompt": "a red circle",
        "seed": 0,
        "seconds": 1.0,
        "raw_seconds": [1.0],
        "first_call": None,
        "steps": [],
        "engaged": {},
        "quality": None,
        "source": "computed",
        "file": "images/0.png",
        "pixels_sha256": "0" * 64,
        "sha256": "0" * 64,
    }
    return SampleRecord(**{**usual, **values})


def evidence(**values: Any) -> CacheEvidence:
    """What the hooks of a strategy counted, without FLOPs."""
    unknown = dict.fromkeys(("block_flops", "flop_share", "denoiser_flops", "denoiser_flop_share"))
    counts: dict[str, Any] = {"strategy": "fbcache", "attached_to": "FluxTransformer2DModel", "calls": 0, "hits": 0}
    return CacheEvidence(**{**counts, **unknown, **values})


def timing(**values: Any) -> Timing:
    """Times of a run without a reference."""
    unknown: dict[str, Any] = dict.fromkeys(("first_call", "p90", "reference_raw", "reference_median", "speedup"))
    return Timing(**{**unknown, "same_run": None, "raw": [1.0], "median": 1.0, "mad": 0.0, **values})


def environment(**values: Any) -> Environment:
    usual: dict[str, Any] = {"device": "cpu", "device_name": "a processor", "driver": None, "platform": "Linux"}
    more: dict[str, Any] = {"versions": {}, "code": "", "threads": 1, "variables": {}, "plugins": {}, "commit": None}
    return Environment(**{**usual, **more, **values})


def record(**values: Any) -> Record:
    """A completed run without images."""
    usual: dict[str, Any] = {
        "schema_version": 2,
        "status": "completed",
        "error": None,
        "fingerprint": "",
        "config": {},
        "overrides": [],
        "environment": environment(),
        "plan": PlanSummary(stages=[], prompts=[], verdicts=[], changes=[]),
        "reference": Reference(kind="none"),
        "engaged": Engaged(),
        "stages": [],
        "samples": [],
        "cache": None,
        "timing": None,
        "quality": None,
        "noise_floor": None,
        "warnings": [],
    }
    return Record(**{**usual, **values})
