"""`report.html` in headless Chromium: it sorts, filters, shows images, slides, copies, in dark and in light.

Wants Chromium (Debian: `apt-get install chromium`) and playwright, which the dev extra has; without them it is skipped.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest

from tests.report.small_sweep import HOSTILE, SAMPLERS, THRESHOLDS, hostile, small_sweep
from wavespeed_runner.media.images import write_png
from wavespeed_runner.metrics.statistics import Interval
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.page import page
from wavespeed_runner.report.page.data import NOTHING, texts
from wavespeed_runner.report.ranking import rank_rows
from wavespeed_runner.report.rows import Sweep

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def folder(finished: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_sweep(*finished, tmp_path_factory.mktemp("sweep"))


@pytest.fixture
def sweep(folder: Path) -> Sweep:
    return collect(folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install '.[dev]')")
    if CHROMIUM is None:
        pytest.skip("no Chromium (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`opened(sweep, **context)`: the page in a fresh window. In the end nothing has complained, or been asked for."""
    complaints: list[str] = []
    windows: list[Any] = []

    def show(sweep: Sweep, *, wide: int = 1440, **context: Any) -> Any:
        path = tmp_path / "report.html"
        path.write_text(page(sweep), encoding="utf-8")
        windows.append(browser.new_context(viewport={"width": wide, "height": 1000}, **context))
        window = windows[-1].new_page()
        window.on("console", lambda message: complaints.append(message.text))
        window.on("pageerror", lambda error: complaints.append(str(error)))
        window.on("request", lambda asked: asked.url.startswith(("data:", "blob:")) or complaints.append(asked.url))
        window.goto(path.as_uri())
        assert complaints.pop(0) == path.as_uri()
        return window

    yield show
    for window in windows:
        window.close()
    assert complaints == []


def until(window: Any, expression: str) -> None:
    """Waits. (`wait_for_function` would need what the page's policy forbids.)"""
    end = monotonic() + 10
    while not window.evaluate(expression):
        assert monotonic() < end, expression
        window.wait_for_timeout(20)


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


def test_a_point_shows_its_image(opened: Callable[..., Any], sweep: Sweep) -> None:
    window = opened(sweep)
    for plot in ("#plot-seconds", "#plot-share"):
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


def test_the_rivals_line_ends_at_the_reference(opened: Callable[..., Any], sweep: Sweep) -> None:
    rows = [replace(row, reference_seconds=0.8) for row in sweep.rows]
    rows[0] = replace(rows[0], rival=True)
    window = opened(replace(sweep, rows=rows))
    dashed = (
        "document.getElementById('plot-{}').data.filter((one) => one.line?.dash === 'dash').map((one) => one.x.at(-1))"
    )
    assert window.evaluate(dashed.format("seconds")) == [800] and window.evaluate(dashed.format("share")) == [100]
    stars = "document.getElementById('plot-{}').data.filter((one) => one.name === 'reference').map((one) => one.x)"
    assert window.evaluate(stars.format("seconds")) == [[800, None]], "one star, and one entry in the legend"
    assert window.evaluate(stars.format("share")) == [[100, None]]


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
    assert window.evaluate(f"{plot}._fullLayout.xaxis.title.text").endswith("scaled to the median reference")


def test_where_no_share_is_known_its_plot_says_so(opened: Callable[..., Any], sweep: Sweep) -> None:
    record = deepcopy(sweep.rows[0].record)
    assert record
    for sample in record.samples:
        sample.engaged = {}
    rows = [replace(row, computed_share=None) for row in sweep.rows]
    window = opened(replace(sweep, rows=[replace(rows[0], record=record), *rows[1:]]))
    assert window.locator("#plot-share .annotation-text").all_text_contents() == ["not known"]
    assert window.locator("#plot-share .points path").count() == 0
    assert window.locator("#plot-seconds .points path").count() == 6, "five settings and the reference"
    window.locator("#table [data-job='0']").click()
    assert "every one was computed" not in window.inner_text("#job") and "whole steps" in window.inner_text("#job")


def pairs(sweep: Sweep) -> Sweep:
    """`points` of fewer steps and two thresholds, for two seeds each; the last one is missing."""
    points = [{"cache": "none", "steps": "8"}, *({"cache": "fbcache", "threshold": one} for one in ("0.1", "0.3"))]
    axes = [
        {"cache": "", "steps": "", "threshold": "", **point, "seed": str(seed)} for point in points for seed in (1, 2)
    ]
    rows = [
        replace(sweep.rows[number % 5], job=str(number), axes=own, label=str(number), rival=own["cache"] == "none")
        for number, own in enumerate(axes)
    ]
    rows[-1] = replace(rows[-1], status="missing", record=None, quality={}, seconds=None)
    return replace(sweep, rows=rows, axes=["cache", "steps", "threshold", "seed"])


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
    waiting = "[...document.querySelectorAll('#grid img')].filter((one) => !one.src).length"
    assert window.evaluate(waiting) > 0
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
    window.locator("#viewer button[title='the next job']").click()
    assert window.locator("#viewer h2").inner_text() == sweep.rows[1].label
    assert (Path(sweep.folder) / window.get_attribute("#viewer footer a", "href")).is_file()
    window.keyboard.press("Escape")
    assert not window.locator("#viewer").is_visible()


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
    window.locator("#job button[title='the next job']").click()
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
    loaded = window.evaluate("[...document.querySelectorAll('#grid img')].filter((one) => one.src).length")
    assert loaded < 500, "images far from the window wait"
    window.fill("#filter", "no such words")
    assert window.inner_text("#shown") == "0 of 1000"
