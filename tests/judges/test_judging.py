"""Runs with judges: what they leave in the record, what decides that a run is done, and what a failing judge does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import CACHED, PROMPTS, run_as_data
from wavespeed_runner import registry
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.judges import metric
from wavespeed_runner.judges.metric import NoOptions
from wavespeed_runner.media.images import read_png
from wavespeed_runner.metrics.quality import summarize_metrics
from wavespeed_runner.metrics.values import is_less_better, list_metrics, read_values
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.records.comparable import identify_comparable
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.records.new import IMAGE_KEY

Planned = Callable[..., Plan]
VIDEO = ("model=wan21", "num_frames=5", "model.dtype=float32", "measure.warmup=0")


@dataclass(kw_only=True)
class Scaled:
    factor: float = 1.0


@pytest.fixture(autouse=True)
def judges(own_registry: Any) -> None:
    """The judges that a plugin would bring: one of images alone, one that compares, and one with options."""

    @metric("brightness", less_is_better=False, needs_reference=False)
    def judge_brightness(image: Any, reference: Any, prompt: str) -> float:
        assert reference is None
        return float(image.mean()) + 1000 * len(prompt)

    @metric("distance", less_is_better=True, needs_reference=True)
    def judge_distance(image: Any, reference: Any, prompt: str) -> float:
        return float(np.abs(image.astype(int) - reference).max())

    @metric("scaled", less_is_better=True, needs_reference=False, options=Scaled)
    def make_scaled(options: Scaled) -> Callable[..., float]:
        return lambda image, reference, prompt: options.factor * float(image.mean())

    @metric("large", less_is_better=True, needs_reference=False)
    def judge_large(image: Any, reference: Any, prompt: str) -> float:
        return 1e12

    @metric("broken", less_is_better=True, needs_reference=False)
    def judge_broken(image: Any, reference: Any, prompt: str) -> float:
        return float("nan") if prompt == PROMPTS[0] else image.nothing


BOTH = {"brightness": {}, "distance": {}}


@pytest.fixture
def judged(planned: Planned, tmp_path: Path) -> dict[str, Any]:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS))
    plan = planned(*CACHED, "prompt=null", metrics=BOTH, prompt=None, prompts={"path": str(prompts)})
    record = run_as_data(plan, tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    return record


def test_the_record_has_what_the_judges_say_of_the_files(judged: dict[str, Any], tmp_path: Path) -> None:
    for sample in judged["samples"]:
        name = Path(sample["file"]).name
        image, reference = (read_png(tmp_path / "run" / part / name)[0] for part in ("images", "reference"))
        letters = 1000 * len(sample["prompt"])
        distance = float(np.abs(image.astype(int) - reference).max())
        assert sample["metrics"] == {"brightness": image.mean() + letters, "distance": distance}
        assert sample["metrics_of_reference"] == {"brightness": reference.mean() + letters}
        assert distance > 0 and "metrics_worst_frame" not in sample


def test_the_summary_is_that_of_every_metric_with_its_direction(judged: dict[str, Any]) -> None:
    figures = [sample["metrics"] for sample in judged["samples"]]
    expected = summarize_metrics(figures, less_is_better=["distance"])
    references = [sample["metrics_of_reference"]["brightness"] for sample in judged["samples"]]
    assert judged["metrics"]["distance"] == {**expected["distance"], "less_is_better": True}
    mean = pytest.approx(np.mean(references))
    assert judged["metrics"]["brightness"] == {
        **expected["brightness"],
        "less_is_better": False,
        "reference_mean": mean,
    }
    assert judged["metrics"]["distance"]["worst"] == max(figure["distance"] for figure in figures)


def test_values_are_read_by_name(judged: dict[str, Any]) -> None:
    record = record_from_data(judged)
    assert read_values(record, "distance") == [sample["metrics"]["distance"] for sample in judged["samples"]]
    assert read_values(record, "ssim") == [sample["quality"]["ssim"] for sample in judged["samples"]]
    assert [is_less_better(name) for name in ("mae", "ssim", "distance", "brightness")] == [True, False, True, False]
    assert {"psnr", "lpips", "distance"} <= set(list_metrics())
    with pytest.raises(ConfigError, match="was not judged by it"):
        read_values(record, "lpips")
    with pytest.raises(ConfigError, match="nothing of that name"):
        is_less_better("nothing")


def test_another_judge_denoises_nothing_and_is_another_record(
    judged: dict[str, Any], planned: Planned, tmp_path: Path
) -> None:
    plain = [*CACHED, f"prompt='{PROMPTS[0]}'"]
    plans = [planned(*plain, metrics=each) for each in ({}, {"scaled": {}}, {"scaled": {"factor": 2.0}})]
    assert len({plan.fingerprint for plan in plans}) == 1 and plans[0].keys == plans[1].keys == plans[2].keys
    assert len({plan.identity for plan in plans}) == len({plan.asked for plan in plans}) == 3
    record = run_as_data(plans[2], tmp_path / "again", [])
    assert [run["source"] for run in record["stages"] if run["name"] in ("denoise", "decode")].count("computed") == 0
    assert record["samples"][0]["source"] == "store" and record["samples"][0]["metrics"]["scaled"] > 0
    without, with_judge = (record_from_data(each) for each in (judged, {**judged, "config": {**judged["config"]}}))
    with_judge.config["metrics"] = {}
    assert identify_comparable(without) == identify_comparable(with_judge)


def test_the_content_of_a_judges_file_counts(planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.safetensors"
    monkeypatch.setattr("wavespeed_runner.judges.perceptual.check_weights", lambda *_: None)
    identities = []
    for content in (b"one", b"two", b"one"):
        file.write_bytes(content)
        identities.append(planned(*CACHED, metrics={"lpips": {"weights": str(file)}}).identity)
    assert identities[0] == identities[2] != identities[1]


def test_a_run_that_is_its_own_reference_is_judged_without_one(planned: Planned, tmp_path: Path) -> None:
    record = run_as_data(planned("measure=default", "measure.warmup=0", metrics=BOTH), tmp_path / "run", [])
    assert record["status"] == "completed" and record["reference"]["kind"] == "self"
    assert record["metrics"].keys() == {"brightness"} and "metrics_of_reference" not in record["samples"][0]


def test_an_image_carries_no_judges(judged: dict[str, Any], tmp_path: Path) -> None:
    metadata = read_png(tmp_path / "run" / judged["samples"][0]["file"])[1]
    assert "metrics" not in json.loads(metadata[IMAGE_KEY])["config"]


def test_videos_are_judged_frame_by_frame_and_by_their_changes(planned: Planned, tmp_path: Path) -> None:
    plan = planned(*CACHED, *VIDEO, "cache.residual_diff_threshold=100", metrics={"distance": {}, "temporal": {}})
    record = run_as_data(plan, tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    (sample,) = record["samples"]
    assert sample["frames"] == 5 and sample["metrics"].keys() == {"distance", "temporal"}
    assert all(sample["metrics_worst_frame"][name] >= sample["metrics"][name] > 0 for name in sample["metrics"])


@pytest.mark.parametrize(("prompt", "told"), [(PROMPTS[0], "a number below 1e+12"), (PROMPTS[1], "AttributeError")])
def test_a_judge_that_fails_is_named(planned: Planned, tmp_path: Path, prompt: str, told: str) -> None:
    record = run_as_data(planned(metrics={"broken": {}}, prompt=prompt), tmp_path / "run", [])
    assert record["status"] == "failed" and record["error"]["message"].startswith("metrics.broken: ")
    assert told in record["error"]["message"]


def test_a_value_that_no_record_holds_is_refused(planned: Planned, tmp_path: Path) -> None:
    record = run_as_data(planned(metrics={"large": {}}), tmp_path / "run", [])
    assert record["status"] == "failed" and "metrics.large: 1000000000000.0" in record["error"]["message"]


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ({"distanc": {}}, "did you mean 'distance'"),
        ({"distance": None}, "to leave it out: ~metrics.distance"),
        ({"distance": {"x": 1}}, "metrics.distance"),
        ("distance", "their options are needed"),
    ],
)
def test_a_wrong_choice_is_refused(planned: Planned, metrics: Any, told: str) -> None:
    with pytest.raises(Exception, match=told):
        planned(*CACHED, metrics=metrics)


@pytest.mark.parametrize("name", ["ssim", "forks", "no word", "a.b"])
def test_a_judge_has_a_name_of_its_own(name: str) -> None:
    with pytest.raises(ValueError, match="a name is needed"):
        metric(name, less_is_better=True, needs_reference=False)


def test_one_name_is_one_judge() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        metric("distance", less_is_better=True, needs_reference=True)(lambda image, reference, prompt: 0.0)
    assert registry.lookup("metric", "distance").options is NoOptions
