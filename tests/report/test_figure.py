"""`report.png`: that it shows what the sweep says, and that it can be read."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from tests.report.records import study, varied, write_job
from wavespeed_runner.media.plotting import new_figure
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.figure import figure
from wavespeed_runner.report.figure_labels import _drop_overlapping, _points_of_stars
from wavespeed_runner.report.figure_styles import COLOURS, MARKERS, OTHER, RIVAL, STEPS, choose_styles

SETTING = COLOURS[0]

Finished = tuple[Path, dict[str, Any]]
KEY = "cache.residual_diff_threshold"


def points(axes: Any, colour: str) -> list[tuple[float, float]]:
    """The markers of a colour that errorbar has drawn."""
    found = [line for line in axes.lines if line.get_marker() in "os" and to_hex(line.get_color()) == colour.lower()]
    return [place for line in found for place in zip(*(map(float, d) for d in line.get_data()), strict=True)]


def lines(axes: Any, style: str) -> list[Any]:
    return [line for line in axes.lines if line.get_linestyle() == style and len(line.get_xdata()) > 1]


def labels(axes: Any) -> dict[str, Any]:
    return {text.get_text(): text for text in axes.texts}


def test_both_panels_show_every_setting_and_its_rivals(tmp_path: Path, finished: Finished) -> None:
    sweep = collect(study(tmp_path, finished[1]))
    made = figure(sweep)
    time, share = made.axes
    done = [row for row in sweep.rows if row.status == "completed"]
    for colour, is_rival in ((SETTING, False), (RIVAL, True)):
        own = [row for row in done if row.rival == is_rival]
        quality = [row.quality["ssim"].mean.value for row in own]
        seconds = [row.seconds.value for row in own if row.seconds]
        shares = [100 * row.computed_share for row in own if row.computed_share]
        assert np.allclose(points(time, colour), [*zip(seconds, quality, strict=True)])
        assert np.allclose(points(share, colour), [*zip(shares, quality, strict=True)])
    assert "s (median)" in time.get_xlabel()
    (front,) = lines(time, "-")
    corners = list(zip(front.get_xdata(), front.get_ydata(), strict=True))
    assert len(corners) == 2 * sum(row.front for row in done) + 1 > 5, "the reference ends it"
    assert all(x == before_x or y == before_y for (before_x, before_y), (x, y) in pairwise(corners)), "in steps"
    (other,) = lines(share, "-")
    corners = list(zip(other.get_xdata(), other.get_ydata(), strict=True))
    assert corners[-1] == (100.0, 1.0) and len(corners) >= 3, "the second panel has a front of its own"
    assert all(x == before_x or y == before_y for (before_x, before_y), (x, y) in pairwise(corners)), "in steps"
    (curve,) = lines(time, "--")
    assert list(curve.get_xdata()) == pytest.approx([0.35, 0.6, 0.85, 2.0]), "it ends at the reference"
    assert curve.get_ydata()[-1] == 1.0 and list(lines(share, "--")[0].get_xdata()) == pytest.approx([25, 50, 75, 100])
    (floor,) = lines(time, ":")
    assert set(floor.get_ydata()) == {0.997}
    assert [text.get_text() for text in made.legends[0].get_texts()] == [
        "Pareto front", "reference", "noise floor", "fbcache", "fewer steps, no cache"
    ]  # fmt: skip


def test_intervals_are_drawn(tmp_path: Path, finished: Finished) -> None:
    sweep = collect(study(tmp_path, finished[1]))
    bars = figure(sweep).axes[0].containers[0].lines[2][1].get_segments()
    means = [row.quality["ssim"].mean for row in sweep.rows if row.quality and not row.rival]
    for segment, mean in zip(bars, means, strict=True):
        assert (segment[0][1], segment[1][1]) == pytest.approx((mean.low, mean.high)) and mean.low < mean.high


@pytest.mark.parametrize("count", [6, 18, 40])
def test_no_two_labels_lie_on_one_another(tmp_path: Path, finished: Finished, count: int) -> None:
    made = figure(collect(study(tmp_path, finished[1], count)))
    made.draw_without_rendering()
    for axes in made.axes:
        shown = labels(axes)
        assert {"7 steps", "14 steps", "21 steps"} <= set(shown) and len(shown) >= 6
        boxes = [text.get_window_extent() for text in shown.values()]
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
        assert all(made.bbox.x0 <= box.x0 and box.x1 <= made.bbox.x1 for box in boxes)


def test_a_label_that_a_star_would_cover_is_left_out() -> None:
    axes = new_figure(figsize=(6, 4)).subplots()
    axes.set(xlim=(0, 2), ylim=(0, 2))
    stars = [tuple(axes.transData.transform(place)) for place in _points_of_stars(axes, [1.0])]
    assert len(stars) == 5 and tuple(axes.transData.transform((1.0, 1.0))) in stars
    covered, beside = (axes.text(x, y, "steps 14", ha="center", va="center") for x, y in ((1.0, 1.02), (1.0, 1.5)))
    assert _drop_overlapping([covered, beside], stars) == [beside] and covered not in axes.texts


def test_text_is_legible_at_half_size(tmp_path: Path, finished: Finished) -> None:
    made = figure(collect(study(tmp_path, finished[1])))
    sizes = [
        text.get_fontsize() for axes in made.axes for text in (*axes.texts, *axes.get_xticklabels(), axes.xaxis.label)
    ]
    # On a page of 6.5 inches the image is half as large, and 5 points are the least that journals print.
    assert min(sizes) >= 10


def test_near_one_the_axis_stretches(tmp_path: Path, finished: Finished) -> None:
    for number, ssim in enumerate((0.99995, 0.999, 0.99, 0.9, 0.5)):
        write_job(tmp_path / str(number), varied(finished[1], [f"{KEY}={number}"], seconds=5.0 - number, ssim=ssim))
    axes = figure(collect(tmp_path)).axes[0]
    places = [axes.transData.transform((1.0, ssim))[1] for ssim in (0.999, 0.99, 0.9)]
    assert places[0] - places[1] == pytest.approx(places[1] - places[2], rel=0.15), "a tenth is a tenth"
    assert "0.99" in {f"{tick:g}" for tick in axes.get_yticks()}
    assert np.isfinite(axes.transData.transform((1.0, 1.0))).all(), "an image may be identical"


def test_the_axis_is_stretched_in_every_report(tmp_path: Path, finished: Finished) -> None:
    for number, ssim in enumerate((0.9, 0.8, 0.7)):
        write_job(tmp_path / str(number), varied(finished[1], [f"{KEY}={number}"], ssim=ssim))
    assert figure(collect(tmp_path)).axes[0].get_yscale() == "function"


def test_each_cache_has_a_look_of_its_own_in_both_panels(tmp_path: Path, finished: Finished) -> None:
    for number, name in enumerate(("fbcache", "planned", "mine", "none")):
        made = varied(finished[1], [f"{KEY}={number}"], seconds=0.5 + number / 10, ssim=0.98)
        made["config"]["cache"] |= {"name": name, "chosen_as": None}
        write_job(tmp_path / str(number), made)
    sweep = collect(tmp_path)
    styles = choose_styles(sweep.rows)
    assert len({style for style in styles.values()}) == len(styles) >= 3
    for axes in figure(sweep).axes:
        drawn = {(to_hex(line.get_color()).upper(), line.get_marker()) for line in axes.lines}
        assert {(colour.upper(), marker) for colour, marker in styles.values()} <= drawn


def test_strategies_beyond_the_palette_share_a_look() -> None:
    many = [stand_in(f"strategy {number}") for number in range(9)]
    styles = choose_styles([*many, stand_in("none"), stand_in("steps", rival=True)])
    assert list(styles) == [*(f"strategy {number}" for number in range(9)), OTHER, STEPS]
    assert styles["strategy 7"] == styles["strategy 8"] == (COLOURS[-1], MARKERS[-1]) and styles[STEPS][0] == RIVAL


def stand_in(cache: str, *, rival: bool = False) -> Any:
    """What `choose_styles` reads of a row."""
    return SimpleNamespace(rival=rival, record=SimpleNamespace(config={"cache": {"name": cache}}))


def test_settings_that_are_all_perfect_have_a_scale(tmp_path: Path, finished: Finished) -> None:
    for number in range(2):
        made = varied(finished[1], [f"{KEY}={number}"], seconds=1.0 + number, ssim=1.0, share=1.0)
        for sample in made["samples"]:
            sample["quality"] |= {"ssim": 1.0}
        write_job(tmp_path / str(number), made)
    time, share = figure(collect(tmp_path)).axes
    low, high = time.get_ylim()
    assert 0.97 < low < 0.985 and 1 < high < 1.005 and max(time.get_yticks()) == 1
    assert share.get_xlim() == (0, 105)


def test_without_a_comparison_it_says_so(tmp_path: Path, finished: Finished) -> None:
    write_job(tmp_path, {**finished[1], "reference": {"kind": "none"}, "quality": None})
    made = figure(collect(tmp_path))
    assert not made.axes and "No job has been compared" in made.texts[-1].get_text()


@pytest.mark.filterwarnings("error")
def test_names_that_the_font_does_not_have_and_formulas_are_drawn(tmp_path: Path, finished: Finished) -> None:
    for number, value in enumerate(("$x_{", "猫", "a\\b")):
        write_job(tmp_path / str(number), varied(finished[1], [f"prompt='{value}'"], seconds=1.0 + number))
    made = figure(collect(tmp_path))
    made.canvas.draw()
    assert {"$x_{", "?", "a\\b"} == set(labels(made.axes[0]))
