"""Fixtures for tests of claims and replay."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

from tests.sharing.claim_helpers import (
    Record,
)
from tests.sharing.replay_helpers import Finished, Replay, ReplayText, set_figures
from wavespeed_runner.cli.main import main
from wavespeed_runner.metrics.quality import summarize_metrics
from wavespeed_runner.records.file import read_record
from wavespeed_runner.sharing import export

SAFE = {"seconds": "{value: 1000.0}", "speedup": "{value: 0.0001}"}
"""Claims of speed that hold on any machine, however busy."""


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


@pytest.fixture
def replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Replay:
    """`replay(path, *values)` in an empty folder: exit status, stdout, stderr."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")

    def run(path: Path, *values: str) -> tuple[int, str, str]:
        status = main(["replay", str(path), *values])
        return status, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def exported_text(finished: Finished) -> str:
    """The exported finished run, with a claim of speed that always holds. Built once, since it takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished[0].parent)  # where its prompts are
        return set_figures(export.format_experiment(read_record(finished[0] / "record.json"), "mine"), **SAFE)


@pytest.fixture
def text(exported_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """`exported_text`, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return exported_text


@pytest.fixture
def replay_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> ReplayText:
    def run(text: str, *values: str) -> tuple[int, str, str]:
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
        return main(["replay", str(tmp_path / "mine.yaml"), *values]), *capsys.readouterr()

    return run
