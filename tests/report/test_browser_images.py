"""Images of `report.html` in headless Chromium: the grid along its axes, and the large view."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.browser import pairs, until
from tests.report.small_sweep import SAMPLERS, THRESHOLDS
from wavespeed_runner.media.images import write_png
from wavespeed_runner.report.page.texts import NOTHING, texts
from wavespeed_runner.report.rows import Sweep

pytestmark = pytest.mark.slow


def test_the_grid_follows_its_axes(opened: Callable[..., Any], sweep: Sweep) -> None:
    window = opened(sweep)
    heads = window.locator("#grid thead th").all_inner_texts()
    assert [text.split("\n")[-1] for text in heads] == ["", "reference", *THRESHOLDS]
    assert window.locator("#grid tbody tr").count() == 2 and window.locator("#grid button.image").count() == 5
    captions = window.locator("#grid tbody tr").nth(0).locator(".caption").all_inner_texts()
    first = sweep.rows[0].record.samples[0].quality.ssim  # type: ignore[union-attr]
    assert captions[1] == f"{texts(sweep.rows[0], (1000.0, 'ms'))['time']} SSIM {first:.4f}"
    assert window.locator("#grid .empty .pill").inner_text() == "failed"
    window.locator("#grid").scroll_into_view_if_needed()
    until(window, "document.querySelector('#grid button.image img').naturalWidth === 32")
    before = window.locator("#grid button.image img").first.get_attribute("src")
    window.locator("#images .choice label", has_text="difference").click()
    until(window, "document.querySelector('#grid button.image img').naturalWidth === 32")
    assert window.locator("#grid button.image img").first.get_attribute("src") != before
    window.select_option("#across", "sampler")
    assert window.locator("#down").input_value() == ""
    window.locator("#others select").select_option("0.65")
    heads = window.locator("#grid thead th").all_inner_texts()
    assert [text.split("\n")[-1] for text in heads] == ["", "reference", *SAMPLERS]
    window.select_option("#across", "")
    assert window.locator("#grid .flow .label").all_inner_texts() == [
        "reference",
        *(row.label for row in sweep.rows[:5]),
    ]
    window.select_option("#sample", "1")
    captions = window.locator("#grid .caption").all_inner_texts()
    assert captions[1].endswith(f"SSIM {first - 0.002:.4f}")


def test_an_axis_that_some_jobs_leave_as_it_is_has_no_value_too(opened: Callable[..., Any], sweep: Sweep) -> None:
    rows = [replace(row, axes={**row.axes, "start": ""}) for row in sweep.rows]
    late = [replace(row, axes={**row.axes, "start": "0.5"}, label=f"{row.label} late") for row in sweep.rows]
    window = opened(replace(sweep, rows=[*rows, *late], axes=[*sweep.axes, "start"]))
    select = window.locator("#others select")
    assert select.locator("option").all_inner_texts() == [NOTHING, "0.5"]
    shown = "[...document.querySelectorAll('#grid button.image')].map((one) => Number(one.dataset.place))"
    assert sorted(window.evaluate(shown)) == [0, 1, 2, 3, 4]
    select.select_option("0.5")
    assert sorted(window.evaluate(shown)) == [6, 7, 8, 9, 10]


def test_the_grid_opens_full_where_settings_were_paired(opened: Callable[..., Any], sweep: Sweep) -> None:
    window = opened(pairs(sweep))
    heads = [text.split("\n")[-1] for text in window.locator("#grid thead th").all_inner_texts()]
    assert heads == ["", "reference", "6 steps", "0.1", "0.3"], "the record has 6 steps"
    assert window.locator("#grid button.image").count() == 5 and window.locator("#others select").count() == 0
    assert window.locator("#grid .empty .pill").inner_text() == "missing"
    window.select_option("#down", "")
    assert window.locator("#others select").count() == 1, "the paired keys are in the setting already"
    # Along two of the paired keys the rest follows, for a cell without a job tells nothing.
    window.select_option("#across", "cache")
    window.select_option("#down", "seed")
    assert window.locator("#grid button.image").count() == 2
    window.locator("#others select[data-key=threshold]").select_option("0.3")
    assert window.locator("#others select[data-key=steps]").input_value() == ""
    assert window.locator("#grid button.image").count() == 1 and window.locator("#grid .pill").count() == 1


@pytest.mark.parametrize("width", [700, 1000, 1440])
def test_no_column_of_the_grid_is_cut_off(opened: Callable[..., Any], sweep: Sweep, width: int) -> None:
    rows = [replace(sweep.rows[n % 5], job=str(n), axes={"x": str(n % 5), "y": str(n // 5)}) for n in range(10)]
    window = opened(replace(sweep, rows=rows, axes=["x", "y"]), wide=width)
    grid = window.locator("#grid").bounding_box()
    last = window.locator("#grid tbody tr").first.locator(".image").last.bounding_box()
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    assert last["x"] + last["width"] < grid["x"] + grid["width"] and last["width"] >= 64


def test_images_that_wait_are_there_on_paper(opened: Callable[..., Any], sweep: Sweep, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = []
    for number in range(60):
        record = deepcopy(sweep.rows[0].record)
        assert record
        record.samples = record.samples[:1]
        pixels = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        write_png(tmp_path / str(number) / record.samples[0].file, pixels, metadata={})
        own = {"x": str(number % 3), "y": str(number // 3)}
        rows.append(replace(sweep.rows[0], job=str(number), folder=tmp_path / str(number), record=record, axes=own))
    window = opened(replace(sweep, rows=rows, axes=["x", "y"], folder=tmp_path))
    waiting = "[...document.querySelectorAll('#grid img')].filter((one) => one.src === BLANK).length"
    assert window.evaluate(waiting) > 0
    # One without a source, or with a broken one, has no width: Chromium draws its icon of a broken image.
    until(window, "[...document.querySelectorAll('#grid img')].every((one) => one.complete && one.naturalWidth > 0)")
    assert window.evaluate(waiting) > 0, "those that are not loaded yet too"
    printed = window.pdf(format="A4")
    assert len(re.findall(rb"/Subtype\s*/Image\b", printed)) >= 60 and window.evaluate(waiting) == 0


def test_the_slider_slides(opened: Callable[..., Any], sweep: Sweep) -> None:
    window = opened(sweep)
    window.locator("#grid button.image").first.click()
    assert window.locator("#viewer h2").inner_text() == sweep.rows[0].label
    above = "getComputedStyle(document.querySelector('#viewer .above')).clipPath"
    assert "50%" in window.evaluate(above)
    box = window.locator("#viewer .compare").bounding_box()
    window.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    window.mouse.down()
    window.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 50, steps=5)
    window.mouse.up()
    right = float(re.findall(r"calc\(100% - ([\d.]+)%\)|inset\(0px ([\d.]+)%", window.evaluate(above))[0][1] or "nan")
    assert 5 < right < 15, window.evaluate(above)
    sources = [window.evaluate(f"document.querySelectorAll('#viewer img')[{n}].src") for n in (0, 1)]
    assert sources[0] != sources[1]
    window.locator("#viewer label", has_text="side by side").click()
    assert window.locator("#viewer figcaption").all_inner_texts() == ["reference", "candidate"]
    window.locator("#viewer button[title='next job']").click()
    assert window.locator("#viewer h2").inner_text() == sweep.rows[1].label
    assert (Path(sweep.folder) / window.get_attribute("#viewer footer a", "href")).is_file()
    window.keyboard.press("Escape")
    assert not window.locator("#viewer").is_visible()
