"""Fixtures of the report tests: a record to change, a small sweep, and its page in headless Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.report.small_sweep import small_sweep
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.page import page
from wavespeed_runner.report.rows import Sweep

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def record(finished: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    """The record of a finished run, for the test to change."""
    return deepcopy(finished[1])


@pytest.fixture(scope="module")
def sweep_folder(finished: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small sweep; not for changing."""
    return small_sweep(*finished, tmp_path_factory.mktemp("sweep"))


@pytest.fixture
def sweep(sweep_folder: Path) -> Sweep:
    """A small sweep as a report collects it."""
    return collect(sweep_folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; tests that need it are skipped where it or playwright is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install '.[dev]')")
    if CHROMIUM is None:
        pytest.skip("no Chromium (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`opened(sweep, **context)` opens the sweep's page in a new window.

    The test fails if a page wrote to the console, raised an error, or requested anything but itself.
    """
    complaints: list[str] = []
    windows: list[Any] = []

    def show(sweep: Sweep, *, wide: int = 1440, **context: Any) -> Any:
        path = tmp_path / "report.html"
        path.write_text(page(sweep), encoding="utf-8")
        windows.append(browser.new_context(viewport={"width": wide, "height": 1000}, **context))
        window = windows[-1].new_page()
        window.on("console", lambda message: complaints.append(message.text))
        window.on("pageerror", lambda error: complaints.append(str(error)))
        window.on(
            "request", lambda request: request.url.startswith(("data:", "blob:")) or complaints.append(request.url)
        )
        window.goto(path.as_uri())
        assert complaints.pop(0) == path.as_uri()
        return window

    yield show
    for window in windows:
        window.close()
    assert complaints == []
