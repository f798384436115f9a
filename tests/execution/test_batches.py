"""Several prompts and seeds in one run, denoised together where it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_as_data
from wavespeed_runner.cli.main import main
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import Plan, build_plan

Planned = Callable[..., Plan]


def pixels(record: dict[str, Any]) -> list[str]:
    assert record["status"] == "completed", record["error"]
    return [sample["pixels_sha256"] for sample in record["samples"]]


def test_seeds_count_up_from_the_seed(planned: Planned, tmp_path: Path) -> None:
    several = run_as_data(planned("seed=5", "num_images_per_prompt=3"), tmp_path / "several", [])
    assert [sample["seed"] for sample in several["samples"]] == [5, 6, 7]
    assert len(set(pixels(several))) == 3
    assert several["plan"]["prompts"] == ["a red circle"]
    one = run_as_data(planned("seed=6"), tmp_path / "one", [])
    assert pixels(one) == pixels(several)[1:2]
    assert {run["source"] for run in one["stages"]} == {"store"}, "the same image, and already there"


def test_a_batch_shares_its_time_and_keeps_images_apart(planned: Planned, tmp_path: Path) -> None:
    plan = planned("num_images_per_prompt=3", "batch_size=2")
    record = run_as_data(plan, tmp_path / "run", [])
    assert len(set(pixels(record))) == 3
    first, second, third = record["samples"]
    assert first["seconds"] == second["seconds"] > 0 and third["seconds"] > 0
    assert sum(step["seconds"] for step in first["steps"]) == pytest.approx(first["seconds"], rel=0.5)
    denoised = [run for run in record["stages"] if run["name"] == "denoise"]
    assert [run["sample"] for run in denoised] == [0, 1, 2]


def test_what_the_store_has_is_not_denoised_again_and_the_rest_is_the_same(planned: Planned, tmp_path: Path) -> None:
    whole = run_as_data(planned("num_images_per_prompt=3", "batch_size=2"), tmp_path / "whole", [])
    again = planned("num_images_per_prompt=3", "batch_size=2")
    for name in ("denoise", "decode"):
        again.store.path(again.keys[1][name]).unlink()  # the second image is lost
    mended = run_as_data(again, tmp_path / "mended", [])
    assert pixels(mended) == pixels(whole)
    computed = [(run["name"], run["sample"]) for run in mended["stages"] if run["source"] == "computed"]
    assert [entry for entry in computed if entry[0] != "load"] == [("denoise", 1), ("decode", 1)]


def test_a_image_of_a_batch_is_replayed_alone(
    planned: Planned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = run_as_data(planned("num_images_per_prompt=3", "batch_size=2"), tmp_path / "run", [])
    image = tmp_path / "run" / record["samples"][1]["file"]
    assert main(["replay", str(image), f"outputs={tmp_path / 'elsewhere'}"]) == 0
    assert "identical, 1 of 1" in capsys.readouterr().out


def test_the_size_of_batches_is_part_of_what_a_image_is(planned: Planned) -> None:
    assert planned("batch_size=2").fingerprint != planned().fingerprint, "other shapes, other rounding"


@pytest.mark.parametrize("key", ["batch_size", "num_images_per_prompt"])
def test_counts_below_one_are_refused(composed: Callable[..., dict[str, Any]], key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}=0.*at least 1"):
        build_plan(composed(f"{key}=0"))


def test_each_image_of_a_batch_has_its_own_decisions(planned: Planned, tmp_path: Path) -> None:
    wanted = ["cache=fbcache", "cache.residual_diff_threshold=0.5", "steps=8"]
    record = run_as_data(planned("num_images_per_prompt=2", "batch_size=2", *wanted), tmp_path / "run", [])
    pixels(record)
    signals = [[step["signal"] for step in sample["steps"]] for sample in record["samples"]]
    assert len(signals[0]) == len(signals[1]) == 8 and signals[0] != signals[1]


def test_the_record_is_json_of_what_was_asked(planned: Planned, tmp_path: Path) -> None:
    run_as_data(planned("num_images_per_prompt=2", "batch_size=2"), tmp_path / "run", [])
    config = json.loads((tmp_path / "run" / "record.json").read_text())["config"]
    assert (config["num_images_per_prompt"], config["batch_size"]) == (2, 2)
