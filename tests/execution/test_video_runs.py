"""Runs of a video model: what they leave, and that one MP4 is enough to run it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import run_as_data
from wavespeed_runner.cli.main import main
from wavespeed_runner.execution.executor import Executor
from wavespeed_runner.media.images import read_png
from wavespeed_runner.media.videos import draw_frame_sheet, hash_frames, read_metadata
from wavespeed_runner.metrics.quality import compare_videos
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.records.new import IMAGE_KEY
from wavespeed_runner.report.console import show

VIDEO = ("model=wan21", "num_frames=5", "steps=6", "model.dtype=float32")
CACHED = ("measure=default", "measure.warmup=0", "cache=fbcache", "cache.residual_diff_threshold=100")

Finished = tuple[Path, dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def finished_video(composed: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Folder and record of a run with a cache, and its values by stage, the reference's as `reference`."""
    home = tmp_path_factory.mktemp("video")
    plan = build_plan({**composed(*VIDEO, *CACHED), "outputs": str(home)})
    record = run_as_data(plan, home / "run", [])
    assert record["status"] == "completed", record["error"]
    executor = Executor(plan.store, rerun=False, on_stage=lambda stage: pytest.fail(f"{stage} was not in the store"))
    (values,) = executor.run(plan.graph, plan.samples, plan.keys, [])
    assert plan.reference is not None
    (reference,) = executor.run(plan.reference, plan.samples, plan.reference_keys, [])
    return home / "run", record, {**values, "reference": reference[plan.reference.output]}


def test_the_folder_holds_videos_and_a_sheet_beside_each(finished_video: Finished) -> None:
    folder, record, _ = finished_video
    (sample,) = record["samples"]
    name = Path(sample["file"]).stem
    for part in ("videos", "reference", "difference"):
        assert sorted(path.name for path in (folder / part).iterdir()) == [f"{name}.mp4", f"{name}.png"]
    rest = {path.name for path in folder.iterdir()} - {"videos", "reference", "difference"}
    assert (
        rest == {"record.json", "config.yaml", "overview.png", "trace.csv", "trace.png"}
        and sample["file"] == f"videos/{name}.mp4"
    )


def test_the_record_tells_of_the_frames(finished_video: Finished) -> None:
    folder, record, values = finished_video
    (sample,) = record["samples"]
    frames = values["decode"].tensors["frames"][0]
    assert (sample["frames"], sample["fps"]) == (len(frames), 16) == (5, 16)
    assert sample["pixels_sha256"] == hash_frames(frames)
    original = values["reference"].tensors["frames"][0]
    assert (frames != original).any(), "the cache changed nothing: the comparison proves nothing"
    assert (sample["quality"], sample["quality_worst_frame"]) == compare_videos(frames, original)
    assert np.array_equal(read_png((folder / sample["file"]).with_suffix(".png"))[0], draw_frame_sheet(frames, 16))


def test_a_video_carries_its_config_and_the_hash_of_its_frames(finished_video: Finished) -> None:
    folder, record, _ = finished_video
    (sample,) = record["samples"]
    tags = read_metadata(folder / sample["file"])
    about = json.loads(tags[IMAGE_KEY])
    assert about["config"]["prompt"] == sample["prompt"] and about["fingerprint"] == record["fingerprint"]
    assert tags["pixels_sha256"] == sample["pixels_sha256"]


def test_one_video_is_enough_to_run_it_again(
    finished_video: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, record, _ = finished_video
    monkeypatch.chdir(tmp_path)
    assert main(["replay", str(folder / record["samples"][0]["file"])]) == 0
    assert "replay: identical, 1 of 1" in capsys.readouterr().out


def test_a_video_of_another_program_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.mp4").write_bytes(b"hello")
    assert main(["replay", "x.mp4"]) == 2
    assert "x.mp4: not a readable image or video: not an MP4 video" in capsys.readouterr().err


def test_the_console_speaks_of_a_video(finished_video: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    folder, record, _ = finished_video
    show(record_from_data(record), folder)
    out = capsys.readouterr().out
    assert "1 video of" in out and "5 frames" in out and "time per video" in out
