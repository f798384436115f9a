"""`report.html` in headless Chromium: sorting, filtering, one job, dark and light, and size.

Needs Chromium (Debian: `apt-get install chromium`) and playwright (dev extra); skipped without them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest

from tests.report.browser import pairs, until
from tests.report.small_sweep import HOSTILE, SAMPLERS, THRESHOLDS, hostile
from wavespeed_runner.media.images import write_png
from wavespeed_runner.report.page.texts import NOTHING
from wavespeed_runner.report.rows import Sweep

pytestmark = pytest.mark.slow


def column(window: Any, number: int) -> list[str]:
    """The first line of a column's visible cells."""
    cells = window.locator(f"#table tbody tr:visible td:nth-child({number})")
    return [text.split("\n")[0] for text in cells.all_inner_texts()]


def test_it_sorts(opened: Callable[..., Any], sweep: Sweep) -> None:
    window = opened(sweep)
    assert column(window, 1)[0].startswith("0")
    time = window.locator("#table th", has_text="time")
    time.click()
    seconds = [float(text.removesuffix(" ms")) for text in column(window, 5)[:5]]
    assert seconds == sorted(seconds) and len(set(seconds)) == 5 and column(window, 5)[5] == NOTHING
    time.click()
    assert [float(text.removesuffix(" ms")) for text in column(window, 5)[:5]] == seconds[::-1]
    assert column(window, 5)[5] == NOTHING, "what has no figure is last in both directions"
    window.locator("#table th", has_text="threshold").press("Enter")
    assert column(window, 2) == [threshold for threshold in THRESHOLDS for _ in SAMPLERS]


def test_it_filters_by_words_and_status(opened: Callable[..., Any], sweep: Sweep) -> None:
    window = opened(sweep)
    window.fill("#filter", "DPMPP_2m 0.65")
    assert [text[0] for text in column(window, 1)] == ["3"] and window.inner_text("#shown") == "1 of 6"
    until(window, "document.querySelectorAll('#plot-seconds .trace .points path').length === 2")  # and the reference
    better = [
        str(order) for order, row in enumerate(sweep.rows) if row.quality and row.quality["ssim"].mean.value >= 0.94
    ]
    assert 0 < len(better) < 5
    for said in ("ssim>=0.94", "SSIM>0.93999"):
        window.fill("#filter", said)
        assert [text[0] for text in column(window, 1)] == better, said
    window.fill("#filter", "ssim<0 completed")
    assert column(window, 1) == [] and window.inner_text("#shown") == "0 of 6"
    window.fill("#filter", "")
    window.locator(".chips label", has_text="completed").click()
    assert column(window, 4) == ["failed"]
    window.locator(".chips label", has_text="completed").click()
    window.locator(".chips label", has_text="front only").click()
    assert [text[0] for text in column(window, 1)] == [row.job for row in sweep.rows if row.front]


def test_fewer_steps_have_a_column_where_there_are_any(opened: Callable[..., Any], sweep: Sweep) -> None:
    window = opened(sweep)
    assert window.locator("th", has_text="vs fewer steps").count() == 0
    window.locator("#table [data-job='0']").click()
    assert "against fewer steps" not in window.inner_text("#job")
    window = opened(pairs(sweep))
    assert window.locator("th", has_text="vs fewer steps").count() == 1
    window.locator("#table [data-job='0']").click()
    assert "against fewer steps" in window.inner_text("#job")


def test_a_single_run_is_called_one(opened: Callable[..., Any], sweep: Sweep) -> None:
    window = opened(replace(sweep, rows=[replace(sweep.rows[0], axes={})], axes=[]))
    assert window.inner_text(".kind") == "run report" and opened(sweep).inner_text(".kind") == "sweep report"
    assert not window.locator("#filter").is_visible() and not window.locator("#across").is_visible()
    assert window.locator("#grid .label").all_inner_texts() == ["reference", sweep.rows[0].label]


def test_a_job_has_its_steps_and_a_config_to_copy(opened: Callable[..., Any], sweep: Sweep) -> None:
    window = opened(sweep, permissions=["clipboard-read", "clipboard-write"])
    window.locator("#table [data-job='2']").click()
    assert window.inner_text("#job h2") == sweep.rows[2].label and window.url.endswith("#job-2")
    steps = [step.computed for sample in sweep.rows[2].record.samples for step in sample.steps]  # type: ignore[union-attr]
    counted = "document.querySelectorAll('#job .xy2 .scatterlayer .trace')[{}].querySelectorAll('.points path').length"
    assert [window.evaluate(counted.format(n)) for n in (0, 1)] == [sum(steps), len(steps) - sum(steps)]
    assert "threshold 0.65" in window.inner_text("#job .trace") and "signal" in window.inner_text("#job .trace")
    assert window.inner_text("#job pre") == sweep.rows[2].config_yaml
    window.locator("#job button", has_text="Copy").click()
    window.wait_for_selector("#job button:has-text('Copied')")
    assert window.evaluate("navigator.clipboard.readText()") == sweep.rows[2].config_yaml
    window.locator("#job button[title='next job']").click()
    assert window.inner_text("#job h2") == sweep.rows[3].label


def test_dark_and_light(opened: Callable[..., Any], sweep: Sweep) -> None:
    def shades(window: Any) -> list[float]:
        """Brightness of the ground, of text, and of the plots' text."""
        colours = window.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
            " getComputedStyle(document.querySelector('#plot-seconds .xtick text')).fill]"
        )
        return [float(np.mean([int(part) for part in re.findall(r"\d+", colour)[:3]])) for colour in colours]

    dark, light = (opened(sweep, color_scheme=scheme) for scheme in ("dark", "light"))
    ground, ink, ticks = shades(dark)
    assert ground < 40 and ink > 200 and ticks > 130
    ground, ink, ticks = shades(light)
    assert ground > 230 and ink < 60 and ticks < 130
    dark.click("#theme")
    assert shades(dark) == shades(light)


def test_hostile_records_in_a_browser(opened: Callable[..., Any], sweep: Sweep) -> None:
    window = opened(hostile(sweep))
    box = window.locator("#plot-seconds .points path").first.bounding_box()
    window.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    window.wait_for_selector("#card img", state="visible")
    window.locator("#table [data-job='0']").click()
    assert window.inner_text("#job pre") == HOSTILE
    window.keyboard.press("Escape")
    window.select_option("#across", "")
    window.locator("#grid button.image").first.click()
    assert window.evaluate("window.hacked === undefined && document.querySelectorAll('.hacked').length === 0")
    assert window.locator("svg a").count() == 0


def test_it_opens_without_images_and_without_anything(opened: Callable[..., Any], sweep: Sweep, tmp_path: Path) -> None:
    window = opened(replace(sweep, rows=[replace(row, folder=tmp_path) for row in sweep.rows]))
    assert window.locator("#plots").is_visible() and not window.locator("#images").is_visible()
    failed = opened(replace(sweep, rows=sweep.rows[5:], finished=False))
    assert not failed.locator("#plots").is_visible() and failed.locator("#problems").is_visible()
    opened(replace(sweep, rows=[], axes=[], command="", environment={}, finished=False))


def test_a_thousand_jobs_open_in_seconds(opened: Callable[..., Any], sweep: Sweep, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = []
    for number in range(1000):
        row = sweep.rows[number % 5]
        record = deepcopy(row.record)
        assert record and row.seconds
        record.samples = record.samples[:1]
        pixels = generator.integers(0, 255, (16, 16, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
        write_png(tmp_path / str(number) / record.samples[0].file, pixels, metadata={})
        factor = generator.uniform(0.5, 1.5)
        seconds = replace(row.seconds, value=row.seconds.value * factor)
        axes = {"x": str(number % 40), "y": str(number // 40)}
        more = {"record": record, "seconds": seconds, "axes": axes, "label": ", ".join(axes.values())}
        rows.append(replace(row, job=str(number), folder=tmp_path / str(number), **more))
    many = replace(sweep, rows=rows, axes=["x", "y"], folder=tmp_path)
    began = monotonic()
    window = opened(many)
    made = monotonic() - began
    assert made < 60, "a few seconds on a machine with nothing else to do"
    assert window.locator("#table tbody tr").count() == 1000
    assert window.locator("#plot-seconds .points path").count() >= 1000
    assert window.locator("#grid button.image").count() == 1000
    loaded = window.evaluate("[...document.querySelectorAll('#grid img')].filter((one) => one.src !== BLANK).length")
    assert loaded < 500, "images far from the window wait"
    window.fill("#filter", "no such words")
    assert window.inner_text("#shown") == "0 of 1000"
