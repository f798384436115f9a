"""`overview.png`: what its columns and rows are called, and which images it shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import run_as_data
from wavespeed_runner.media import contact_sheet
from wavespeed_runner.media.images import write_png
from wavespeed_runner.planning.plan import Plan

Sheet = dict[str, Any]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Sheet]:
    """The rows and columns of each sheet that is drawn."""
    sheets: list[Sheet] = []
    draw = contact_sheet.draw_contact_sheet

    def note(rows: Any, columns: Any, **given: Any) -> Any:
        sheets.append({"rows": dict(rows), "columns": list(columns), **given})
        return draw(rows, columns, **given)

    monkeypatch.setattr(contact_sheet, "draw_contact_sheet", note)
    return sheets


def test_columns_of_one_prompt_say_their_seeds(
    planned: Callable[..., Plan], tmp_path: Path, drawn: list[Sheet]
) -> None:
    run_as_data(planned("seed=5", "num_images_per_prompt=2", "measure=none"), tmp_path / "run", [])
    assert [name.split(":")[0] for name in drawn[0]["columns"]] == ["seed 5", "seed 6"]
    run_as_data(planned("seed=5", "measure=none"), tmp_path / "one", [])
    assert "seed" not in drawn[1]["columns"][0], "nothing to tell apart"


def test_an_image_that_was_repainted_stands_below_its_start_and_its_mask(
    planned: Callable[..., Plan], tmp_path: Path, drawn: list[Sheet]
) -> None:
    scene = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    mask = np.zeros_like(scene)
    mask[:16] = 255
    write_png(tmp_path / "scene.png", scene, metadata={})
    write_png(tmp_path / "mask.png", mask, metadata={})
    files = (f"image={tmp_path / 'scene.png'}", f"mask={tmp_path / 'mask.png'}")
    record = run_as_data(planned("graph=inpaint", *files, "measure=none"), tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    rows = drawn[0]["rows"]
    assert list(rows) == ["starts from", "mask", "images"]
    assert (rows["starts from"][0] == scene).all() and (rows["mask"][0] == mask).all()
