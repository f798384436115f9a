"""`parallel.vae` in a run: all ranks decode, and the record says how many tiles each of them had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import run_as_data
from tests.execution.forked_ranks import start_rank
from wavespeed_runner.execution.ranks import local
from wavespeed_runner.planning.plan import Plan

SIZE = ("width=160", "height=160", "steps=2", "memory.vae_tiling=true")
"""2 x 2 tiles of 128 pixels."""


def test_tiles_are_decoded_by_all_ranks_to_the_same_image(
    planned: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_start_rank", start_rank)
    ranks = ("parallel=ulysses", "parallel.degree=2")
    alone = run_as_data(planned(*SIZE, *ranks), tmp_path / "alone", [])
    shared = run_as_data(planned(*SIZE, *ranks, "parallel.vae=true"), tmp_path / "shared", [])
    for record in (alone, shared):
        assert record["status"] == "completed", record["error"]
    assert shared["samples"][0]["pixels_sha256"] == alone["samples"][0]["pixels_sha256"]
    assert "tiles" not in alone["engaged"]["parallel"], "rank 0 decodes alone"
    tiles = shared["engaged"]["parallel"]["tiles"]
    assert tiles["ranks"] == [2, 2] and tiles["calls"] == 2 and tiles["bytes"] > 0
    assert shared["engaged"]["memory"] == {"vae_tiling": True}
