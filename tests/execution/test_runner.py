"""Runs: the files they write, and that the figures in the record follow from those files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.conftest import CACHED, PROMPTS, run_as_data
from wavespeed_runner.config.schema import to_data
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
    forks = sum(one["ssim"] < 0.9 for one in each)
    assert record["quality"] == {**summarize_metrics(each), "forks": forks}


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
    weights = record["engaged"].pop("weights")
    assert record["reference"] == {"kind": "self"} and set(record["engaged"].values()) == {None}
    assert sum(weights.values()) == record["memory"]["weight_bytes"] < record["memory"]["peak_bytes"]
    assert calls.count("denoise") == 2, "the warm-up and the timed one"
    assert not (tmp_path / "reference").exists()


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
