"""`grid.png`: which images it shows, and where."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.report.small_sweep import small_sweep
from wavespeed_runner.report import grid
from wavespeed_runner.report.collect import collect

Finished = tuple[Path, dict[str, Any]]
Drawn = list[tuple[list[tuple[str, list[Any]]], list[str], list[list[str]]]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """What is given to the contact sheet, which is drawn all the same."""
    seen: Drawn = []
    sheet = grid.draw_contact_sheet

    def draw(rows: Any, columns: Any, *, notes: Any = ()) -> Any:
        seen.append((list(rows), list(columns), [list(line) for line in notes]))
        return sheet(rows, columns, notes=notes)

    monkeypatch.setattr(grid, "draw_contact_sheet", draw)
    return seen


def enlarge(file: Path) -> Any:
    """An image of 32 x 32 pixels as it stands in a cell of 256."""
    return np.asarray(Image.open(file)).repeat(8, axis=0).repeat(8, axis=1)


def open_png(made: bytes | None) -> Any:
    assert made is not None
    return np.asarray(Image.open(BytesIO(made)))


def test_settings_stand_below_the_reference_with_time_and_quality(
    tmp_path: Path, finished: Finished, drawn: Drawn
) -> None:
    """One of the six jobs has failed, so the two keys are not each with each."""
    sweep = collect(small_sweep(finished[0], finished[1], tmp_path))
    assert open_png(grid.grid_png(sweep)).std() > 5
    ((rows, prompts, notes),) = drawn
    assert prompts == ["a red circle", "a blue square"] and rows[0][0] == "reference" and len(rows) == 6
    done = [row for row in sweep.rows if row.status == "completed"]
    for (label, images), row, line in zip(rows[1:], done, notes[1:], strict=True):
        assert row.record and row.seconds and label.startswith(f"{row.label}: ")
        assert f"{row.speedup:.2f}" in label and f"SSIM {row.quality['ssim'].mean.value:.4f}" in label
        for image, sample, note in zip(images, row.record.samples, line, strict=True):
            assert np.array_equal(image, enlarge(row.folder / sample.file))
            assert sample.quality and note == f"SSIM {sample.quality.ssim:.4f}"


def test_two_keys_each_with_each_are_an_xy_plot(tmp_path: Path, finished: Finished, drawn: Drawn) -> None:
    small_sweep(finished[0], finished[1], tmp_path)
    for number in ("4", "5"):  # the last threshold, of which one job has failed
        for path in sorted((tmp_path / number).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        (tmp_path / number).rmdir()
    sweep = collect(tmp_path)
    assert open_png(grid.grid_png(sweep)).std() > 5
    ((rows, columns, notes),) = drawn
    assert columns == ["residual_diff_threshold 0.05", "residual_diff_threshold 0.65"]
    assert [label for label, _ in rows] == ["sampler default", "sampler dpmpp_2m"]
    assert all(" ms, " in note or " s, " in note for line in notes for note in line)
    by_axes = {tuple(row.axes.values()): row for row in sweep.rows}
    row = by_axes["0.65", "dpmpp_2m"]
    assert row.record
    assert np.array_equal(rows[1][1][1], enlarge(row.folder / row.record.samples[0].file))


def test_without_images_there_is_no_grid(tmp_path: Path, finished: Finished) -> None:
    small_sweep(finished[0], finished[1], tmp_path)
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    assert grid.grid_png(collect(tmp_path)) is None


def test_an_image_outside_of_its_folder_is_not_read(tmp_path: Path, finished: Finished, drawn: Drawn) -> None:
    small_sweep(finished[0], finished[1], tmp_path)
    private = tmp_path / "private.png"
    Image.new("RGB", (32, 32), "red").save(private)
    for path in (tmp_path / "0" / "images").iterdir():
        path.unlink()
        path.symlink_to(private)
    grid.grid_png(collect(tmp_path))
    ((rows, _, _),) = drawn
    assert len(rows) == 5, "the job is left out"
