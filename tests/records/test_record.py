"""The record: every key of DESIGN, section 5, in a run that finished and in one that has not begun."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.records.record import cache_summary, new_record, read_record, timing_summary

Finished = tuple[Path, dict[str, Any]]


def check(value: Any, schema: Any, where: str = "record") -> None:
    """A schema is a type, a tuple of allowed ones or values, [schema of every item], or {key: schema}."""
    if isinstance(schema, dict):
        assert isinstance(value, dict) and schema.keys() <= value.keys(), f"{where}: {value!r}"
        for key, inner in schema.items():
            check(value[key], inner, f"{where}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list), f"{where}: {value!r}"
        for i, item in enumerate(value):
            check(item, schema[0], f"{where}.{i}")
    elif isinstance(schema, tuple):
        assert any(type(value) is s if isinstance(s, type) else value == s for s in schema), f"{where}: {value!r}"
    else:
        assert type(value) is schema, f"{where}: {value!r}"


NUMBER = (int, float)
METRIC = {"mean": NUMBER, "ci95": [NUMBER], "worst": NUMBER}
SCHEMA = {
    "schema_version": (1,),
    "status": ("completed", "failed", "interrupted"),
    "error": (None,),
    "fingerprint": str,
    "config": {"model": dict, "sampler": dict, "cache": dict, "prompts": dict, "graph": dict, "measure": dict},
    "overrides": [str],
    "environment": {"versions": dict, "device": str, "driver": (None, str), "commit": (None, str)},
    "plan": {
        "stages": [str],
        "prompts": [str],
        "verdicts": [{"rule": str, "verdict": ("good", "unverified"), "message": str, "fix": str, "source": str}],
        "changes": list,
    },
    "reference": {"kind": ("run", "self", "none")},
    "engaged": {"cache": {"strategy": str, "attached_to": str, "blocks": int, "calls": int, "hits": int}},
    "stages": [
        {"name": str, "seconds": float, "source": ("computed", "store"), "peak_memory_bytes": (int, type(None))}
    ],
    "samples": [
        {
            "prompt": str,
            "seed": int,
            "file": str,
            "sha256": str,
            "seconds": float,
            "steps": [{"index": int, "computed": bool, "signal": (float, type(None)), "seconds": float}],
            "quality": {"mae": float, "mae_similarity": float, "ssim": float, "psnr": (float, type(None))},
        }
    ],
    "cache": {"hits": int, "computed": int, "computed_steps": list, "hit_rate": float},
    "timing": {"first_call": float, "raw": [float], "median": float, "p90": float, "mad": NUMBER}
    | {"reference_median": float, "speedup": float},
    "quality": {"mae": METRIC, "mae_similarity": METRIC, "ssim": METRIC, "psnr": METRIC},
    "noise_floor": {"latents_max_abs": float},
    "warnings": [str],
}
"""DESIGN, section 5."""


def test_the_record_has_every_key_of_the_design(finished: Finished) -> None:
    folder, record = finished
    on_disk = json.loads((folder / "record.json").read_text())
    check(on_disk, SCHEMA)
    assert (
        {key: value for key, value in record.items() if key != "output_dir"}
        == on_disk
        == read_record(folder / "record.json")
    )


def test_every_key_is_there_before_the_run_begins(planned: Callable[..., Plan]) -> None:
    record = json.loads(json.dumps(new_record(planned(), ["steps=4"])))
    assert SCHEMA.keys() <= record.keys()
    assert record["status"] == "interrupted", "what a kill leaves"
    assert record["overrides"] == ["steps=4"] and record["plan"]["prompts"] == ["a red circle"]


def steps(*computed: int) -> list[dict[str, Any]]:
    return [{"index": index, "computed": index in computed} for index in range(1, 5)]


def test_computed_steps_are_given_once_where_images_agree_and_per_image_where_they_differ() -> None:
    same = cache_summary([{"steps": steps(1, 4)}, {"steps": steps(1, 4)}])
    assert same == {"hits": 4, "computed": 4, "computed_steps": [1, 4], "hit_rate": 0.5, "foretold": None}
    assert cache_summary([{"steps": steps(1, 4)}, {"steps": steps(1)}])["computed_steps"] == [[1, 4], [1]]


def test_a_graph_that_denoises_nothing_has_no_hit_rate_to_divide_by() -> None:
    none = {"hits": 0, "computed": 0, "computed_steps": [], "hit_rate": 0.0, "foretold": None}
    assert cache_summary([{"steps": []}]) == none


def test_without_a_reference_there_is_no_speedup() -> None:
    first = {"raw_seconds": [1.0, 3.0], "first_call": 4.0}
    timing = timing_summary([first, {"raw_seconds": [2.0], "first_call": None}])
    assert timing["median"] == 2.0 and timing["first_call"] == 4.0
    assert timing["speedup"] is timing["reference_median"] is timing["reference_raw"] is None


def test_the_speedup_is_the_ratio_of_the_medians() -> None:
    sample = {"raw_seconds": [1.0, 2.0, 9.0], "reference_raw_seconds": [3.0, 4.0, 5.0], "first_call": None}
    assert timing_summary([sample])["speedup"] == 2.0


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"schema_version": 1}', '{"schema_version": 2, "config": {}}'])
def test_what_is_no_record_of_this_version_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(ConfigError, match="record"):
        read_record(tmp_path / "record.json")
