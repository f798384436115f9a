"""Plots of `report.html` in headless Chromium: points, lines, axes and buttons."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from tests.report.browser import pairs, until
from wavespeed_runner.metrics.statistics import Interval
from wavespeed_runner.report.ranking import rank_rows
from wavespeed_runner.report.rows import Sweep

pytestmark = pytest.mark.slow


def test_a_point_shows_its_image(opened: Callable[..., Any], sweep: Sweep) -> None:
    window = opened(sweep)
    for plot in ("#plot-seconds", "#plot-cost"):
        assert not window.locator("#card").is_visible()
        box = window.locator(f"{plot} .points path").first.bounding_box()
        window.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        window.wait_for_selector("#card img", state="visible")
        assert window.locator("#card img").get_attribute("src").startswith("data:image/webp")
        assert window.evaluate("document.querySelector('#card img').naturalWidth") == 32
        assert window.inner_text("#card h3") in [row.label for row in sweep.rows]
        window.mouse.move(5, 5)
        window.wait_for_selector("#card", state="hidden")
    label = window.locator("#plot-seconds .ytitle")
    assert label.text_content() == "SSIM"
    window.locator("#plots .choice label", has_text="PSNR").click()
    assert label.text_content() == "PSNR in dB" and window.locator("#stretch").is_disabled()


def test_no_button_sends_anything_anywhere(opened: Callable[..., Any], sweep: Sweep) -> None:
    window = opened(sweep)
    buttons = window.locator("#plot-seconds .modebar-btn")
    titles = [button.get_attribute("data-title") for button in buttons.all()]
    assert titles == ["Download plot", "Zoom", "Pan", "Reset axes"]
    window.hover("#plot-seconds")
    with window.expect_download() as download:
        buttons.first.click()
    assert download.value.suggested_filename == "seconds.svg" and "<svg" in download.value.path().read_text()[:200]


def test_the_rivals_line_ends_at_the_reference(opened: Callable[..., Any], sweep: Sweep) -> None:
    rows = [replace(row, reference_seconds=0.8) for row in sweep.rows]
    rows[0] = replace(rows[0], rival=True)
    window = opened(replace(sweep, rows=rows))
    dashed = (
        "document.getElementById('plot-{}').data.filter((one) => one.line?.dash === 'dash').map((one) => one.x.at(-1))"
    )
    assert window.evaluate(dashed.format("seconds")) == [800] and window.evaluate(dashed.format("cost")) == [100]
    stars = "document.getElementById('plot-{}').data.filter((one) => one.name === 'reference').map((one) => one.x)"
    assert window.evaluate(stars.format("seconds")) == [[800, None]], "one star, and one entry in the legend"
    assert window.evaluate(stars.format("cost")) == [[100, None]]


def test_lines_and_points_have_the_same_times(opened: Callable[..., Any], sweep: Sweep) -> None:
    """Where each job was timed beside a reference of its own, all are drawn beside the middle one."""
    references = (0.6, 0.6, 0.6, 1.2, 1.2)  # seconds; of the last two the machine was half as fast
    slow = [replace(row, compared_with="one", rivals_with="one") for row in sweep.rows[:5]]
    own = [replace(row, reference_seconds=s) for row, s in zip(slow, references, strict=True)]
    window = opened(replace(sweep, rows=rank_rows(own)))
    plot = "document.getElementById('plot-seconds')"
    points = window.evaluate(f"{plot}.data.filter((one) => one.mode === 'markers').flatMap((one) => one.x)")
    line = window.evaluate(f"{plot}.data.find((one) => one.name === 'Pareto front').x")
    expected = [row.seconds.value * 600 / s for row, s in zip(slow, references, strict=True) if row.seconds]
    assert sorted(points) == pytest.approx(sorted(expected)) and line[-1] == 600
    assert all(any(x == pytest.approx(point) for point in points) for x in line[:-1]) and len(line) > 1
    assert window.evaluate(f"{plot}._fullLayout.xaxis.title.text") == "time per image, ms (scaled)"
    assert window.locator("#plots figcaption").first.inner_text() == "Time per image, scaled to the median reference"
    inside = """(([title, plot]) => title.left >= plot.left && title.right <= plot.right && plot.width < innerWidth)(
        ['#plot-seconds .xtitle', '#plot-seconds'].map((one) => document.querySelector(one).getBoundingClientRect()))"""
    for wide in (1440, 400):
        window.set_viewport_size({"width": wide, "height": 900})
        until(window, inside)


def test_where_no_share_is_known_its_plot_says_so(opened: Callable[..., Any], sweep: Sweep) -> None:
    record = deepcopy(sweep.rows[0].record)
    assert record
    for sample in record.samples:
        sample.engaged = {}
    rows = [replace(row, computed_share=None) for row in sweep.rows]
    window = opened(replace(sweep, rows=[replace(rows[0], record=record), *rows[1:]]))
    assert window.locator("#plot-cost .annotation-text").all_text_contents() == ["not known"]
    assert window.locator("#plot-cost .points path").count() == 0
    assert window.locator("#plot-seconds .points path").count() == 6, "five settings and the reference"
    window.locator("#table [data-job='0']").click()
    assert "every step was computed" not in window.inner_text("#job") and "whole steps" in window.inner_text("#job")


def test_a_setting_that_leaves_the_axis_of_the_colours_as_it_is_stays_in_the_plot(
    opened: Callable[..., Any], sweep: Sweep
) -> None:
    window = opened(pairs(sweep))
    plot = "document.getElementById('plot-seconds')"
    counted = f"{plot}.data.filter((one) => one.mode === 'markers').flatMap((one) => one.x).length"
    drawn = window.evaluate(counted)
    for key in window.evaluate("[...document.getElementById('colour').options].map((one) => one.value)"):
        window.select_option("#colour", key)
        assert window.evaluate(counted) == drawn, key


def test_the_quality_axis_fits_what_is_there(opened: Callable[..., Any], sweep: Sweep) -> None:
    perfect = Interval(value=1.0, low=1.0, high=1.0)
    rows = [replace(row, quality={"ssim": replace(row.quality["ssim"], mean=perfect)}) for row in sweep.rows[:5]]
    window = opened(replace(sweep, rows=rows))
    shown = "document.getElementById('plot-seconds')._fullLayout.yaxis.range"
    low, high = window.evaluate(shown)
    assert 0.97 < low < 0.985 and 1 < high < 1.005
    window.check("#stretch")
    low, high = window.evaluate(shown)
    assert 2.5 < low < 3.5 and 4 < high < 4.5, "in powers of ten"


def test_the_second_plot_shows_the_cost_that_is_chosen(opened: Callable[..., Any], sweep: Sweep) -> None:
    """Memory has its own Pareto front; the reference's memory is not known, so no line leads to it."""
    sizes = (40e6, 30e6, 20e6, 20e6, 10e6)
    rows = [
        replace(row, weight_bytes=int(size), peak_memory_bytes=int(2 * size))
        for row, size in zip(sweep.rows, sizes, strict=False)
    ]
    window = opened(replace(sweep, rows=[*rows, *sweep.rows[len(rows) :]]))
    plot = "document.getElementById('plot-cost')"
    for cost, largest, title in (("peak", 80, "peak memory, MB"), ("weights", 40, "weights, MB")):
        window.select_option("#cost", cost)
        assert window.evaluate(f"{plot}.layout.xaxis.title.text") == title
        shown = window.evaluate(f"{plot}.data.filter((one) => one.mode === 'markers').flatMap((one) => one.x)")
        assert max(shown) == largest
        assert window.evaluate(f"{plot}.data.some((one) => one.name === 'Pareto front')")
        assert not window.evaluate(f"{plot}.data.some((one) => one.name === 'reference')")
