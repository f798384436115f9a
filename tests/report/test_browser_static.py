"""The pages of `tune`, `compare` and `gallery` in headless Chromium: narrow windows, dark ones, and what is copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tune.found import COMMANDS, found, page_of, result
from wavespeed_runner.report.compare import compare
from wavespeed_runner.report.compare.page import page as compare_page
from wavespeed_runner.tune.answer import summarize
from wavespeed_runner.tune.page import render_page
from wavespeed_runner.tune.settings import Cut

pytestmark = pytest.mark.slow
Show = Callable[..., Any]


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Show]:
    """`show(text, wide, **context)` opens a page; the test fails if it wrote to the console or raised an error."""
    complaints: list[str] = []
    windows = []

    def load(text: str, wide: int, **context: Any) -> Any:
        (path := tmp_path / "page.html").write_text(text, encoding="utf-8")
        windows.append(browser.new_context(viewport={"width": wide, "height": 900}, **context))
        window = windows[-1].new_page()
        window.on("console", lambda message: complaints.append(message.text))
        window.on("pageerror", lambda error: complaints.append(str(error)))
        window.goto(path.as_uri())
        return window

    yield load
    for window in windows:
        window.close()
    assert complaints == []


@pytest.mark.parametrize("wide", [400, 500, 1000, 1400])
def test_nothing_is_cut_off_at_any_width(show: Show, finished: tuple[Path, dict[str, Any]], wide: int) -> None:
    for text in (page_of(found(finished[0])), compare_page(compare([finished[0]] * 3))):
        window = show(text, wide)
        assert window.evaluate("document.documentElement.scrollWidth") == wide
        scrolled = "[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth).length"
        assert window.evaluate(scrolled) == 0, "not even within a table"


@pytest.mark.parametrize("wide", [400, 700, 1000, 1400])
def test_options_of_a_sentence_and_of_a_command_stay_whole(show: Show, tmp_path: Path, wide: int) -> None:
    """`sampler=` and `fitted`, `--` and `config-dir` are no two lines; and reasons stay within the column of text."""
    long = "repo=pkg://wavespeed_runner/weights/a_name_that_is_longer_than_any_line_of_a_window_that_is_as_narrow"
    tuning = found(tmp_path, cuts=[Cut(name="x", reason=f"cache=fitted needs a calibration for model=flux {long}")])
    command = "python -m wavespeed_runner --config-dir outputs/tune/demo_quick experiment=mine prompt='...' seeds=same"
    text = render_page(tuning, summarize(tuning), "steps: 12\n", [("run it", "", command)]).decode()
    window = show(text, wide)
    lines = "all => all.map((one) => [one.textContent, one.getClientRects().length, one.offsetHeight])"
    words = window.locator(".answer .word, .command .word").evaluate_all(lines)
    assert {"sampler=dpmpp_2m_karras", "--config-dir", "experiment=mine"} <= {word for word, _, _ in words}
    assert all(count == 1 and high < 30 for _, count, high in words), "each is in one line"
    column, end = (
        window.locator(of).first.evaluate("(one) => one.getBoundingClientRect().right") for of in (".top", "li")
    )
    inside = "all => Math.max(...all.map((one) => one.getBoundingClientRect().right))"
    assert end <= column and window.locator("li .word").evaluate_all(inside) <= end + 0.5
    code = window.locator(".command code").first
    assert code.evaluate("(one) => one.scrollHeight <= one.clientHeight + 1"), "nothing of it is hidden"


def test_images_stay_side_by_side_in_a_narrow_window(show: Show, finished: tuple[Path, dict[str, Any]]) -> None:
    window = show(compare_page(compare([finished[0]] * 2)), 400)
    places = window.locator(".strip").first.locator("img").evaluate_all("all => all.map((one) => one.offsetTop)")
    assert len(places) == 3 and len(set(places)) == 1
    window = show(page_of(found(finished[0])), 400)
    places = window.locator(".two").first.locator("img").evaluate_all("all => all.map((one) => one.offsetTop)")
    assert len(places) == 2 and len(set(places)) == 1


def test_the_plot_is_as_dark_as_the_window_and_legible_when_narrow(show: Show, finished: tuple[Path, Any]) -> None:
    def ink(window: Any, of: str, name: str) -> str:
        return str(window.locator(of).first.evaluate(f"(one) => getComputedStyle(one)['{name}']"))

    text = page_of(found(finished[0]))
    light, dark = (show(text, 400, color_scheme=scheme) for scheme in ("light", "dark"))
    for of, name in ((".chart", "backgroundColor"), (".chart text", "fill"), (".chart circle", "fill")):
        assert ink(light, of, name) != ink(dark, of, name), of
    assert (
        min(light.locator(".chart text").evaluate_all("all => all.map((one) => one.getBoundingClientRect().height)"))
        > 12
    )
    right = max(dark.locator(".chart text").evaluate_all("all => all.map((one) => one.getBoundingClientRect().right)"))
    assert right < 400


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_more_groups_than_colours_look_different(show: Show, tmp_path: Path, scheme: str) -> None:
    tuning = found(tmp_path, answered=False)
    tuning.tuning.results = [result(tmp_path, 0.2 + place / 50, 0.98, cache=f"c{place:02d}") for place in range(20)]
    window = show(page_of(tuning), 1000, color_scheme=scheme)
    width = "one.getBoundingClientRect().width"
    look = f"all => all.map((one) => [getComputedStyle(one).fill, one.getAttribute('d'), {width}])"
    for of in (".chart > svg .mark", ".legend .mark"):
        looks = window.locator(of).evaluate_all(look)
        assert len(looks) == 20 and len({(colour, shape) for colour, shape, _ in looks}) == 20, of
        assert all(8 < wide < 14 for _, _, wide in looks)


def test_a_command_is_copied_whole(show: Show, finished: tuple[Path, Any]) -> None:
    window = show(page_of(found(finished[0])), 400, permissions=["clipboard-read", "clipboard-write"])
    window.locator("[data-copy]").click()
    window.wait_for_selector("button:has-text('Copied')")
    assert window.evaluate("navigator.clipboard.readText()") == COMMANDS[0][2]
    window = show(page_of(found(finished[0])), 400, java_script_enabled=False)
    assert not window.locator("[data-copy]").is_visible() and window.locator("#command-1").is_visible()
