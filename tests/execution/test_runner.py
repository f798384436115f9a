"""Runs: what they leave, and that the figures in the record follow from the files beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from statistics import median
from time import time
from typing import Any

import numpy as np
import pytest
import yaml

from tests.conftest import CACHED, PROMPTS, run_as_data
from wavespeed_runner.config.schema import to_data
from wavespeed_runner.execution.conclusion import _warn_if_too_fast
from wavespeed_runner.execution.process_cache import ProcessCache
from wavespeed_runner.execution.sample_record import _in_turn
from wavespeed_runner.media.images import hash_image, read_png
from wavespeed_runner.metrics.quality import compare_images, summarize_metrics
from wavespeed_runner.planning.plan import Plan, build_plan
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.records.new import IMAGE_KEY
from wavespeed_runner.report.console import show

Planned = Callable[..., Plan]
Finished = tuple[Path, dict[str, Any]]


def test_the_folder_holds_what_the_design_says(finished: Finished) -> None:
    folder, record = finished
    names = [Path(sample["file"]).name for sample in record["samples"]]
    for part in ("images", "reference", "difference"):
        assert sorted(path.name for path in (folder / part).iterdir()) == names
    rest = {path.name for path in folder.iterdir()} - {"images", "reference", "difference"}
    assert rest == {"record.json", "config.yaml", "overview.png", "trace.csv", "trace.png"}
    assert yaml.safe_load((folder / "config.yaml").read_text()) == record["config"]


def test_the_images_are_those_of_the_prompts_in_order_and_have_the_hashes_of_the_record(finished: Finished) -> None:
    folder, record = finished
    assert [sample["prompt"] for sample in record["samples"]] == record["plan"]["prompts"] == list(PROMPTS)
    for sample in record["samples"]:
        assert hash_image(read_png(folder / sample["file"])[0]) == sample["pixels_sha256"]


def test_a_difference_image_is_the_gain_times_what_differs(finished: Finished) -> None:
    folder, record = finished
    seen = 0
    for sample in record["samples"]:
        name = Path(sample["file"]).name
        one, two, shown = (
            read_png(folder / part / name)[0].astype(int) for part in ("images", "reference", "difference")
        )
        gain = record["config"]["measure"]["difference_gain"]
        assert (shown == np.clip(np.rint(gain * abs(one - two)), 0, 255)).all()
        seen += int(shown.max())
    assert seen > 0, "the cache changed nothing: the comparison proves nothing"


def test_quality_is_what_the_files_say(finished: Finished) -> None:
    folder, record = finished
    each = [
        compare_images(
            read_png(folder / sample["file"])[0], read_png(folder / "reference" / Path(sample["file"]).name)[0]
        )
        for sample in record["samples"]
    ]
    assert [sample["quality"] for sample in record["samples"]] == each
    assert record["quality"] == summarize_metrics(each)


def test_timing_is_consistent(finished: Finished) -> None:
    record, timing = finished[1], finished[1]["timing"]
    assert timing["raw"] == [s for sample in record["samples"] for s in sample["raw_seconds"]]
    assert timing["median"] == median(timing["raw"]) and timing["reference_median"] == median(timing["reference_raw"])
    assert timing["speedup"] == timing["reference_median"] / timing["median"]
    for sample in record["samples"]:
        assert 0 < sum(step["seconds"] for step in sample["steps"]) <= sample["seconds"]
    assert timing["first_call"] == record["samples"][0]["first_call"] and record["samples"][1]["first_call"] is None


def test_cache_figures_are_those_of_the_steps(finished: Finished) -> None:
    record, cache = finished[1], finished[1]["cache"]
    steps = [step for sample in record["samples"] for step in sample["steps"]]
    assert 0 < cache["hits"] == sum(not step["computed"] for step in steps) == record["engaged"]["cache"]["hits"]
    assert cache["computed"] + cache["hits"] == len(steps) == 12 and cache["hit_rate"] == cache["hits"] / 12
    each = [[step["index"] for step in sample["steps"] if step["computed"]] for sample in record["samples"]]
    assert cache["computed_steps"] in (each, each[0]) and all(indexes[0] == 1 for indexes in each)


def test_a_image_carries_its_own_config_and_the_fingerprint_of_a_run_of_it_alone(
    planned: Planned, finished: Finished
) -> None:
    folder, record = finished
    for sample in record["samples"]:
        about = json.loads(read_png(folder / sample["file"])[1][IMAGE_KEY])
        assert about["config"]["prompt"] == sample["prompt"] and about["config"]["seed"] == sample["seed"]
        assert not {"outputs", "rerun", "dry_run"} & about["config"].keys()
        assert about["fingerprint"] == planned(*CACHED, prompt=sample["prompt"]).fingerprint


def test_a_reference_image_carries_a_config_without_any_cache(planned: Planned, tmp_path: Path) -> None:
    own = to_data(planned("cache=fbcache").config.cache)
    config = to_data(planned("measure=default", "measure.warmup=0").config)
    config["graph"]["stages"]["denoise"]["options"] = {"cache": own, "steps": 3}
    run_as_data(build_plan(config), tmp_path, [])
    (path,) = (tmp_path / "reference").iterdir()
    about = json.loads(read_png(path)[1][IMAGE_KEY])
    assert about["config"]["graph"]["stages"]["denoise"]["options"] == {"steps": 3}
    assert about["fingerprint"] == build_plan(about["config"]).fingerprint


def test_a_second_identical_run_denoises_nothing_and_says_so(
    planned: Planned, family: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_as_data(planned(), tmp_path / "one", [])
    calls = family()
    second = run_as_data(planned(), tmp_path / "two", [])
    assert calls == []
    assert [record["samples"][0]["source"] for record in (first, second)] == ["computed", "store"]
    assert second["samples"][0]["pixels_sha256"] == first["samples"][0]["pixels_sha256"]
    assert second["timing"]["raw"] == first["timing"]["raw"]
    show(record_from_data(second), tmp_path / "two")
    assert "Nothing was denoised" in capsys.readouterr().out


def test_rerun_denoises_again(planned: Planned, family: Any, tmp_path: Path) -> None:
    run_as_data(planned(), tmp_path / "one", [])
    calls = family()
    record = run_as_data(planned("rerun=true"), tmp_path / "two", [])
    assert calls == ["load", "encode", "denoise", "decode"] and record["samples"][0]["source"] == "computed"


def test_another_cache_takes_embeddings_and_reference_from_the_store(
    planned: Planned, family: Any, tmp_path: Path
) -> None:
    run_as_data(planned(*CACHED, "measure.warmup=0"), tmp_path / "one", [])
    calls = family()
    other = planned(*CACHED, "measure.warmup=0", "cache.residual_diff_threshold=0.7")
    record = run_as_data(other, tmp_path / "two", [])
    assert calls == ["load", "denoise", "decode"]
    assert {stage["source"] for stage in record["stages"] if stage["of"] == "reference"} == {"store"}


def test_without_measuring_there_is_no_reference(planned: Planned, tmp_path: Path) -> None:
    record = run_as_data(planned("cache=fbcache"), tmp_path, [])
    assert record["reference"] == {"kind": "none"} and record["quality"] is None
    assert record["samples"][0]["quality"] is None and record["timing"]["speedup"] is None
    assert not (tmp_path / "reference").exists() and not (tmp_path / "difference").exists()


def test_with_nothing_lossy_on_a_run_is_its_own_reference(planned: Planned, family: Any, tmp_path: Path) -> None:
    calls = family()
    record = run_as_data(planned("measure=default"), tmp_path, [])
    assert record["reference"] == {"kind": "self"} and record["engaged"] == {
        "cache": None,
        "adapters": None,
        "memory": None,
    }
    assert calls.count("denoise") == 2, "the warm-up and the timed one"
    assert not (tmp_path / "reference").exists()


def test_warm_up_and_repeats_are_generated_and_the_repeats_alone_are_timed(
    planned: Planned, family: Any, tmp_path: Path
) -> None:
    calls = family()
    record = run_as_data(planned("measure.warmup=2", "measure.repeats=3"), tmp_path, [])
    assert calls.count("denoise") == 5 and len(record["timing"]["raw"]) == 3
    assert record["timing"]["first_call"] not in record["timing"]["raw"]


def test_classifier_free_guidance_lists_both_branches_of_every_step(planned: Planned, tmp_path: Path) -> None:
    plan = planned("cache=fbcache", "guidance_scale=2", "model.guidance=true_cfg", "negative_prompt=dark")
    record = run_as_data(plan, tmp_path, [])
    steps = record["samples"][0]["steps"]
    assert [sorted(step["branches"]) for step in steps] == [["cond", "uncond"]] * 4
    assert record["engaged"]["cache"]["calls"] == 8


@pytest.mark.parametrize(
    ("window", "inside"),
    [((), slice(1, 6)), (("cache.start=0.2", "cache.end=0.8", "cache.residual_diff_threshold=0.64"), slice(2, 5))],
    ids=["everywhere", "in the window"],
)
def test_a_cache_that_never_hit_is_a_warning_with_the_smallest_signal_where_it_may_act(
    planned: Planned, tmp_path: Path, window: tuple[str, ...], inside: slice
) -> None:
    plan = planned("cache=fbcache", "steps=6", "cache.residual_diff_threshold=0.1", *window)
    record = run_as_data(plan, tmp_path, [])
    smallest = min(step["signal"] for step in record["samples"][0]["steps"][inside])
    assert smallest > plan.config.cache.criterion.threshold, "else it should have hit"
    assert record["warnings"][-1] == (
        f"the cache never hit: cache.residual_diff_threshold must be above {smallest:.4g}, the lowest value it "
        "was compared with"
    )


def test_what_the_rules_are_not_sure_of_is_a_warning(finished: Finished) -> None:
    warnings = finished[1]["warnings"]
    unsure = [word for word in finished[1]["plan"]["verdicts"] if word["verdict"] == "unverified"]
    assert unsure and [f"rule {word['rule']}: {word['message']}; {word['fix']}" for word in unsure] == warnings


@pytest.mark.parametrize(("later", "same_run"), [(60.0, True), (3600.0, False)])
def test_a_reference_of_an_early_job_of_a_long_sweep_is_not_timed_in_turn(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: float, same_run: bool
) -> None:
    first = run_as_data(planned(*CACHED), tmp_path / "first", [])
    assert first["timing"]["same_run"] is True
    monkeypatch.setattr("wavespeed_runner.stages.denoise.time", lambda: time() + later)
    second = run_as_data(planned(*CACHED, "cache.residual_diff_threshold=0.3"), tmp_path / "second", [])
    assert second["samples"][0]["reference_source"] == "store" and second["timing"]["same_run"] is same_run


@pytest.mark.parametrize(
    ("speedup", "flop_share", "casting", "fair"),
    [
        (2.0, 0.5, None, True),
        (2.25, 0.5, None, True),
        (2.35, 0.5, None, False),
        (1.2, 1.0, None, False),
        (4.0, 0.5, "float8_e4m3fn", True),
        (0.5, 0.5, None, True),
    ],
)
def test_a_speedup_above_what_was_left_out_is_a_guess_with_a_warning(
    finished: Finished,
    monkeypatch: pytest.MonkeyPatch,
    speedup: float,
    flop_share: float,
    casting: str | None,
    fair: bool,
) -> None:
    monkeypatch.setattr("wavespeed_runner.metrics.timing.TOO_FAST", 1.15)
    record = deepcopy(finished[1])
    record["engaged"]["cache"]["flop_share"] = flop_share
    record["config"]["memory"]["layerwise_casting"] = casting
    record["timing"] |= {"speedup": speedup, "same_run": True}
    typed = record_from_data(record)
    warnings = _warn_if_too_fast(typed)
    assert typed.timing is not None and typed.timing.same_run is fair and bool(warnings) is not fair
    assert fair or f"{speedup:.2f} is not possible with {flop_share:.0%}" in warnings[0]


def test_in_turn_denoises_both_again_and_nothing_else(planned: Planned, family: Any, tmp_path: Path) -> None:
    cache = ProcessCache()
    run_as_data(planned(*CACHED), tmp_path / "first", [], cache=cache)
    calls = family()
    record = run_as_data(planned(*CACHED, "measure.in_turn=true"), tmp_path / "second", [], cache=cache)
    assert calls == ["denoise"] * 2
    assert [record["samples"][0][f"{of}source"] for of in ("", "reference_")] == ["computed", "computed"]
    assert record["timing"]["same_run"] is True


@pytest.mark.parametrize(
    ("timings", "expected"),
    [
        ([{"timed_by": "a", "timed_at": [5000.0, 9000.0]}, {"timed_by": "a", "timed_at": [0.0, 4990.0]}], True),
        ([{"timed_by": "a", "timed_at": [0.0, 1.0]}, {"timed_by": "a", "timed_at": [902.0, 903.0]}], False),
        ([{"timed_by": "a", "timed_at": [0.0, 1.0]}, {"timed_by": "b", "timed_at": [1.0, 2.0]}], False),
        ([{"timed_by": "a"}, {"timed_by": "a", "timed_at": [1.0, 2.0]}], True),
        ([{}, {}], False),
    ],
)
def test_timings_in_turn_may_each_take_long(timings: list[dict[str, Any]], expected: bool) -> None:
    assert _in_turn(timings) is expected
