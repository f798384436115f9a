"""A strategy that a user puts together in YAML runs from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def test_a_strategy_that_is_only_in_a_users_folder_runs(tmp_path: Path) -> None:
    """Without Python: `cache=mine` from `--config-dir`, with its own parts, one of them changed on the command line."""
    configs = tmp_path / "configs" / "cache"
    configs.mkdir(parents=True)
    (configs / "mine.yaml").write_text(
        "defaults:\n"
        "  - custom\n"
        "  - override signal: first_block_output\n"
        "  - override criterion: accumulated_change\n"
        "  - override predictor: taylor\n"
        "  - _self_\n"
        "criterion:\n"
        "  threshold: 1e9\n"
        "start: 0.25\n"
        "max_consecutive_cache_hits: 2\n"
    )
    command = [sys.executable, "-m", "wavespeed_runner", "--config-dir", str(tmp_path / "configs"), "cache=mine"]
    command += ["model.init=tiny", "device=cpu", "width=64", "height=64", "steps=8", "measure=none"]
    result = subprocess.run(
        [*command, "prompt=a red circle", "cache.predictor.order=2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    (path,) = tmp_path.glob("outputs/runs/*/*/record.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    cache = record["config"]["cache"]
    assert (cache["signal"]["name"], cache["predictor"]) == (
        "first_block_output",
        {"name": "taylor", "order": 2, "variable": "step"},
    )
    assert record["cache"]["computed_steps"] == [1, 2, 5, 8]
    assert record["engaged"]["cache"]["attached_to"] == "FluxTransformer2DModel"
