"""`report.png`: that it shows what the sweep says, and that it can be read."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from tests.report.records import study, varied, write_job
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.figure import figure
from wavespeed_runner.report.figure_places import Obstacles, crosses, find_places
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


@pytest.mark.parametrize("count", [6, 18])
def test_labels_keep_off_leader_lines_intervals_and_stars(tmp_path: Path, finished: Finished, count: int) -> None:
    made = figure(collect(study(tmp_path, finished[1], count)))
    made.draw_without_rendering()
    for axes in made.axes:
        boxes = np.array([text.get_window_extent().extents for text in axes.texts])
        assert len(boxes) >= min(count, 10), "most of them have a place"
        leaders = [np.ravel(axes.transData.transform(patch.get_path().vertices[[0, -1]])) for patch in axes.patches]
        bars = [
            np.ravel(axes.transData.transform(segment))
            for container in axes.containers
            for collection in container.lines[2]
            for segment in collection.get_segments()
        ]
        star = axes.transData.transform((2.0 if axes is made.axes[0] else 100.0, 1.0))
        inside = boxes + np.array([0.5, 0.5, -0.5, -0.5])  # a leader begins at the edge of its own
        assert len(bars) >= 2 * count and not crosses(inside, np.array(leaders).reshape(-1, 4)).any()
        assert not crosses(boxes, np.array(bars)).any()
        assert not crosses(boxes, np.array([[*star, *star]])).any()


def empty(**parts: Any) -> Obstacles:
    nothing = {name: np.zeros((0, 4)) for name in ("never", "marks", "bars", "curves")}
    return Obstacles(**({"frame": (0.0, 0.0, 400.0, 300.0)} | nothing | parts))


def test_a_label_without_room_is_left_out_unless_it_is_needed() -> None:
    """Bars everywhere but in a corner: there is room for one label, or what is asked for covers a bar."""
    bars = np.array([[x, 0.0, x, 300.0] for x in range(0, 400, 20)])
    sizes, points = [(60.0, 12.0)] * 3, [(200.0, 150.0)] * 3
    assert find_places(sizes, points, empty(bars=bars)) == [None] * 3
    assert [place is not None for place in find_places(sizes, points, empty(bars=bars), least=2)] == [True, True, False]
    needed = find_places(sizes, points, empty(bars=bars), needed=[False, True, False])
    assert [place is not None for place in needed] == [False, True, False]
    nowhere = empty(never=np.array([[0.0, 0.0, 400.0, 300.0]]))
    assert find_places(sizes, points, nowhere, least=3, needed=[True] * 3) == [None] * 3


@given(st.lists(st.tuples(st.floats(0, 400), st.floats(0, 300)), min_size=1, max_size=12))
@settings(max_examples=30)
def test_labels_never_cover_one_another_nor_leaders(points: list[tuple[float, float]]) -> None:
    found = find_places([(50.0, 12.0)] * len(points), points, empty(), least=len(points))
    boxes = [np.array([p.x - 25, p.y - 6, p.x + 25, p.y + 6]) if p else None for p in found]
    for index, (place, box) in enumerate(zip(found, boxes, strict=True)):
        if place is None:
            continue
        assert box is not None and box.min() >= -1e-9 and box[2] <= 400 + 1e-9 and box[3] <= 300 + 1e-9
        for other in [one for number, one in enumerate(boxes) if one is not None and number != index]:
            assert box[0] >= other[2] or other[0] >= box[2] or box[1] >= other[3] or other[1] >= box[3]
            if place.leader:
                assert not crosses(other, np.array([[*place.leader, *points[index]]])).any()


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
