"""`grid.png`: which images it shows, and where."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.report.small_sweep import changed, job, small_sweep
from wavespeed_runner.media import contact_sheet
from wavespeed_runner.report import grid, grid_values
from wavespeed_runner.report.collect import collect

Finished = tuple[Path, dict[str, Any]]
Drawn = list[tuple[list[tuple[str, list[Any]]], list[str], list[list[str]]]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """What is given to the contact sheet, which is drawn all the same."""
    seen: Drawn = []
    sheet = contact_sheet.draw_contact_sheet

    def draw(rows: Any, columns: Any, *, notes: Any = (), **more: Any) -> Any:
        seen.append((list(rows), list(columns), [list(line) for line in notes]))
        return sheet(rows, columns, notes=notes, **more)

    for module in (grid, grid_values):
        monkeypatch.setattr(module, "draw_contact_sheet", draw)
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
    assert prompts == ["a red circle", "a blue square"] and len(rows) == 6
    assert rows[0][0] == "reference: 6 steps of default, 600 ms"
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
    assert columns == ["reference: 6 steps of default", "residual_diff_threshold 0.05", "residual_diff_threshold 0.65"]
    assert [label for label, _ in rows] == ["sampler default", "sampler dpmpp_2m"]
    assert all(" ms, " in note or " s, " in note for line in notes for note in line[1:])
    assert [line[0] for line in notes] == ["600 ms"] * 2
    by_axes = {tuple(row.axes.values()): row for row in sweep.rows}
    row = by_axes["0.65", "dpmpp_2m"]
    assert row.record
    assert np.array_equal(rows[1][1][2], enlarge(row.folder / row.record.samples[0].file))
    assert np.array_equal(rows[1][1][0], enlarge(min((row.folder / "reference").iterdir())))


def another(record: dict[str, Any], order: int, *, seed: int = 0, steps: int = 6, threshold: str = "0.05") -> Any:
    """The record with another seed, or another number of steps, which its reference has as well."""
    made = changed(record, order, threshold, "default")
    made["config"] |= {"seed": seed, "steps": steps}
    made["reference"]["steps"] = steps
    for sample in made["samples"]:
        sample["seed"] = seed
    return made


def sweep_of(finished: Finished, home: Path, jobs: list[dict[str, Any]]) -> Any:
    """A sweep of jobs, each with what was typed: `{"seed": 1, "steps": 6}`."""
    for order, typed in enumerate(jobs):
        words = [f"{'cache.residual_diff_' if key == 'threshold' else ''}{key}={one}" for key, one in typed.items()]
        job(home, str(order), another(finished[1], order, **typed), words, finished[0])
    return collect(home)


def list_jobs(sweep: Any, drawn: Drawn) -> set[str]:
    """The jobs whose time stands somewhere."""
    labels = [label for rows, _, _ in drawn for label, _ in rows]
    said = " ".join([*labels, *(note for _, _, notes in drawn for line in notes for note in line)])
    return {row.job for row in sweep.rows if f"{1000 * row.seconds.value:.0f} ms, " in said}


def test_other_seeds_stand_beside_each_with_its_own_reference(tmp_path: Path, finished: Finished, drawn: Drawn) -> None:
    sweep = sweep_of(finished, tmp_path, [{"seed": seed} for seed in (1, 2, 3)])
    assert grid.grid_png(sweep)
    ((rows, columns, notes),) = drawn
    assert columns == [f"seed {seed}: {prompt}" for seed in (1, 2, 3) for prompt in ("a red circle", "a blue square")]
    assert [label for label, _ in rows] == ["reference: 6 steps of default", "fbcache"]
    assert list_jobs(sweep, drawn) == {"0", "1", "2"} and notes[0][2] == "600 ms"
    for place, row in enumerate(sweep.rows):
        assert np.array_equal(rows[0][1][2 * place], enlarge(min((row.folder / "reference").iterdir())))


def test_every_job_of_three_keys_is_shown(tmp_path: Path, finished: Finished, drawn: Drawn) -> None:
    """Seeds side by side; another number of steps has another reference, so it stands below."""
    jobs = [
        {"seed": seed, "steps": steps, "threshold": threshold}
        for steps in (6, 12)
        for seed in (1, 2)
        for threshold in ("0.05", "0.65")
    ]
    sweep = sweep_of(finished, tmp_path, jobs)
    made = open_png(grid.grid_png(sweep))
    assert [rows[0][0] for rows, _, _ in drawn] == [f"reference: {steps} steps of default" for steps in (6, 12)]
    assert all(len(columns) == 4 and len(rows) == 3 for rows, columns, _ in drawn)
    assert list_jobs(sweep, drawn) == {row.job for row in sweep.rows}
    assert made.shape[0] > 6 * 256


def test_an_xy_plot_has_the_reference_of_each_line(tmp_path: Path, finished: Finished, drawn: Drawn) -> None:
    jobs = [{"threshold": threshold, "steps": steps} for threshold in ("0.05", "0.65") for steps in (6, 12)]
    sweep = sweep_of(finished, tmp_path, jobs)
    assert grid.grid_png(sweep)
    ((rows, columns, notes),) = drawn
    assert columns == ["reference", "residual_diff_threshold 0.05", "residual_diff_threshold 0.65"]
    assert [label for label, _ in rows] == ["steps 6", "steps 12"]
    assert [line[0] for line in notes] == ["6 steps of default, 600 ms", "12 steps of default, 600 ms"]
    assert list_jobs(sweep, drawn) == {row.job for row in sweep.rows}


def test_an_xy_plot_over_seeds_has_the_reference_of_each_column(
    tmp_path: Path, finished: Finished, drawn: Drawn
) -> None:
    jobs = [{"seed": seed, "threshold": threshold} for seed in (1, 2, 3) for threshold in ("0.05", "0.65")]
    sweep = sweep_of(finished, tmp_path, jobs)
    assert grid.grid_png(sweep)
    ((rows, columns, _),) = drawn
    assert columns == ["seed 1", "seed 2", "seed 3"] and list_jobs(sweep, drawn) == {row.job for row in sweep.rows}
    assert [label for label, _ in rows] == [
        "reference: 6 steps of default",
        *(f"residual_diff_threshold {threshold}" for threshold in ("0.05", "0.65")),
    ]


def test_prompt_and_seed_stand_above_an_xy_plot_and_what_is_left_out_below(
    tmp_path: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[dict[str, str]] = []
    stack = grid.stack_sheets

    def note_texts(sheets: Any, **texts: str) -> Any:
        said.append(texts)
        return stack(sheets, **texts)

    monkeypatch.setattr(grid, "stack_sheets", note_texts)
    jobs = [{"threshold": threshold, "steps": steps} for threshold in ("0.05", "0.65") for steps in (6, 12)]
    sweep = sweep_of(finished, tmp_path, jobs)
    whole = open_png(grid.grid_png(sweep))
    monkeypatch.setattr(grid, "ROWS", 3)
    assert grid.grid_png(sweep)
    assert said == [
        {"title": "a red circle (seed 0)", "note": ""},
        {"title": "", "note": "1 more job not shown"},
    ]
    assert whole[36:57].std() > 5, "the title"


def test_the_full_run_stands_with_what_is_compared(tmp_path: Path, finished: Finished, drawn: Drawn) -> None:
    """`-m cache=none,fbcache`: the first job was compared with nothing."""
    sweep = sweep_of(finished, tmp_path, [{"threshold": "0.05"}, {"threshold": "0.65"}])
    full = replace(sweep.rows[0], compared_with="", quality={}, speedup=None, reference_seconds=None, front=False)
    assert grid.grid_png(replace(sweep, rows=[full, sweep.rows[1]]))
    ((rows, _, _),) = drawn
    assert len(rows) == 3 and rows[0][0] == "reference: 6 steps of default, 600 ms"


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
