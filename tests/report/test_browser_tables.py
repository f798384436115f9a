"""`report.html` in headless Chromium: rows that open a job, names in narrow windows, and pages without a reference."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.report.rows import Sweep

pytestmark = pytest.mark.slow
Opened = Callable[..., Any]


def test_a_click_anywhere_in_a_row_opens_the_job_and_selecting_text_does_not(opened: Opened, sweep: Sweep) -> None:
    window = opened(sweep)
    row = window.locator("#table tbody tr").nth(2)
    row.locator("td").nth(4).click()
    assert window.inner_text("#job h2") == sweep.rows[2].label
    window.keyboard.press("Escape")
    window.evaluate("getSelection().selectAllChildren(document.querySelectorAll('#table tbody tr')[3].cells[4])")
    window.evaluate("document.querySelectorAll('#table tbody tr')[3].cells[4].click()")
    assert not window.locator("#job").is_visible()
    row.locator("button").press("Enter")
    assert window.locator("#job").is_visible(), "the button does, whatever is selected"


def test_the_threshold_is_named_in_the_legend_and_prompts_below_images(opened: Opened, sweep: Sweep) -> None:
    window = opened(sweep)
    window.locator("#table [data-job='2']").click()
    legend = window.locator("#job .legendtext").all_text_contents()
    assert "threshold 0.65" in legend and window.locator("#job .annotation").count() == 0
    captions = window.locator("#job .strip .caption").all_inner_texts()
    prompts = [sample.prompt for sample in sweep.rows[2].record.samples]  # type: ignore[union-attr]
    assert len(captions) == len(prompts)
    for caption, prompt in zip(captions, prompts, strict=True):
        assert " ".join(prompt.split()) in caption and "SSIM" in caption
    wide = window.locator("#job pre").evaluate("(pre) => [pre.scrollWidth, pre.clientWidth]")
    assert wide[0] == wide[1], "no line of the config is cut off"


def test_without_references_there_is_no_column_for_them_and_no_switch(
    opened: Opened, sweep: Sweep, tmp_path: Path
) -> None:
    window = opened(sweep)
    assert window.locator("#grid thead th", has_text="reference").count() == 1 and window.is_visible("#kinds")
    alone = []
    for row in sweep.rows:
        shutil.copytree(row.folder / "images", tmp_path / row.job / "images")
        alone.append(replace(row, folder=tmp_path / row.job))
    window = opened(replace(sweep, rows=alone))
    assert window.locator("#grid img").count() > 0
    assert window.locator("#grid thead th", has_text="reference").count() == 0 and not window.is_visible("#kinds")


def test_names_break_between_words_and_a_job_s_number_stays_in_one_line(opened: Opened, sweep: Sweep) -> None:
    long = "cache.residual_diff_threshold, sampler.some_other_option"
    rows = [replace(sweep.rows[0], job="11-31-28-770461", axes={})]
    window = opened(replace(sweep, rows=rows, axes=[], title=long), wide=400)
    heights = "Math.round(one.getBoundingClientRect().height / parseFloat(getComputedStyle(one).lineHeight))"
    assert window.locator("#table .link").first.evaluate(f"(one) => {heights}") == 1
    lines = window.locator("h1").evaluate(
        """(head) => {
          const found = {};
          for (const part of head.childNodes) for (let at = 0; at < (part.length ?? 0); at++) {
            const range = document.createRange();
            range.setStart(part, at);
            range.setEnd(part, at + 1);
            const top = Math.round(range.getBoundingClientRect().top);
            found[top] = (found[top] ?? "") + part.data[at];
          }
          return Object.values(found);
        }"""
    )
    assert "".join(lines) == long and len(lines) > 1
    assert all(line.rstrip()[-1] in "_.,=/" for line in lines[:-1]), lines
    shown = window.locator("#cost").evaluate("(one) => one.scrollWidth <= one.clientWidth")
    assert shown and window.evaluate("document.documentElement.scrollWidth") == 400


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_heads_of_a_narrow_window_are_whole(opened: Callable[..., Any], sweep: Sweep, scheme: str) -> None:
    long = "cache.residual_diff_threshold 0.15, sampler dpmpp_2m"
    rows = [replace(row, label=f"{long} {row.label}") for row in sweep.rows]
    for words in (12, 40):
        command = " ".join(["cache.start=0.25"] * words)
        window = opened(replace(sweep, rows=rows, command=command), wide=400, color_scheme=scheme)
        seen, whole = window.evaluate(
            "(({clientHeight, scrollHeight}) => [clientHeight, scrollHeight])(byId('command'))"
        )
        assert seen == 5 + 19 * min(6, (whole - 5) // 19) and (seen == whole or words == 40), "lines are whole"
    window.evaluate("openJob(0)")
    tops = "(query) => [...document.querySelectorAll(query)].map((one) => one.getBoundingClientRect().top)"
    heights = window.evaluate(tops, "#job header button")
    assert len(heights) == 3 and max(heights) - min(heights) < 2, "the close sign is beside the arrows"
    window.evaluate("byId('job').close(); openViewer(0)")
    heights = window.evaluate(tops, "#viewer .choice label")
    assert len(heights) == 3 and len(set(heights)) == 1, "the views are in one line"
    right = window.evaluate("document.querySelector('#viewer .close').getBoundingClientRect().right")
    assert right <= 400 and window.evaluate("byId('viewer').scrollWidth <= byId('viewer').clientWidth")
