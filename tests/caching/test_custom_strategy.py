"""A strategy that a user puts together in YAML runs from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_line import CommandLine


def test_a_strategy_that_is_only_in_a_users_folder_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without Python: `cache=mine` from `--config-dir`, with its own parts, one of them changed on the command line."""
    command = CommandLine(tmp_path, monkeypatch, capsys)
    command.config(
        "cache/mine",
        "defaults:\n"
        "  - custom\n"
        "  - override signal: first_block_output\n"
        "  - override criterion: accumulated_change\n"
        "  - override predictor: taylor\n"
        "  - _self_\n"
        "criterion:\n"
        "  threshold: 1e9\n"
        "start: 0.25\n"
        "max_consecutive_cache_hits: 2\n",
    )
    tiny = ("model.init=tiny", "device=cpu", "width=64", "height=64", "steps=8", "measure=none")
    said = command(
        *("--config-dir", str(command.configs), "cache=mine", *tiny),
        *("prompt=a red circle", "cache.predictor.order=2"),
    )
    assert said.status == 0, said.err
    (path,) = command.folder.glob("outputs/runs/*/*/record.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    cache = record["config"]["cache"]
    assert (cache["signal"]["name"], cache["predictor"]) == (
        "first_block_output",
        {"name": "taylor", "order": 2, "variable": "step"},
    )
    assert record["cache"]["computed_steps"] == [1, 2, 5, 8]
    assert record["engaged"]["cache"]["attached_to"] == "FluxTransformer2DModel"
