"""`trace.csv` and `trace.png`: that they say what the record says."""

from __future__ import annotations

import csv
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tests.conftest import run_as_data
from wavespeed_runner.execution import trace_files
from wavespeed_runner.execution.trace_files import SHADE, figure
from wavespeed_runner.execution.trace_table import rows
from wavespeed_runner.media.images import read_png
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.records.file import record_from_data

Finished = tuple[Path, dict[str, Any]]


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "trace.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def panels(made: Any) -> list[Any]:
    return [axes for axes in made.axes if axes.get_visible()]


def squares(axes: Any) -> dict[str, list[int]]:
    """Steps in a panel's row of decisions, by the colour that fills them."""
    found: dict[str, list[int]] = {}
    for line in axes.lines:
        if line.get_marker() == "s":
            found.setdefault(line.get_markerfacecolor(), []).extend(int(x) for x in line.get_xdata())
    return found


def shaded(axes: Any) -> tuple[float, float] | None:
    """Where the background says that steps may be reused."""
    for patch in axes.patches:
        if to_hex(patch.get_facecolor()) == SHADE:
            return patch.get_x(), patch.get_x() + patch.get_width()
    return None


def draw(record: dict[str, Any]) -> Figure:
    typed = record_from_data(record)
    return figure(typed, rows(typed))


def test_the_table_is_the_record(finished: Finished) -> None:
    folder, record = finished
    found = table(folder)
    threshold = record["config"]["cache"]["criterion"]["threshold"]
    expected = [
        {
            "file": sample["file"],
            "prompt_index": str(index),
            "seed": str(sample["seed"]),
            "stage": "denoise",
            "step": str(step["index"]),
            "branch": "",
            "computed": str(int(step["computed"])),
            "signal": "" if step["signal"] is None else repr(step["signal"]),
            "level": "" if step["level"] is None else repr(step["level"]),
            "threshold": repr(threshold),
            "seconds": repr(step["seconds"]),
            "outside_window": "0",
        }
        for index, sample in enumerate(record["samples"])
        for step in sample["steps"]
    ]
    assert found == expected and len(found) == 12
    assert {row["computed"] for row in found} == {"0", "1"}, "else nothing was told apart"


@pytest.mark.filterwarnings("error:constrained_layout")
def test_guidance_branches_have_a_line_each(planned: Callable[..., Plan], tmp_path: Path) -> None:
    overrides = ("cache=fbcache", "guidance_scale=2", "model.guidance=true_cfg", "num_images_per_prompt=2")
    record = run_as_data(planned(*overrides, "cache.residual_diff_threshold=9"), tmp_path, [])
    found = table(tmp_path)
    assert [(row["prompt_index"], row["seed"]) for row in found[::8]] == [("0", "0"), ("0", "1")]
    for row in found:
        sample = next(sample for sample in record["samples"] if sample["file"] == row["file"])
        decided = sample["steps"][int(row["step"]) - 1]["branches"][row["branch"]]
        assert row["computed"] == str(int(decided["computed"]))
        assert row["signal"] == ("" if decided["signal"] is None else repr(decided["signal"]))
    made = draw(record)
    assert len(panels(made)) == 2
    assert len(squares(panels(made)[0])) == 3, "two colours for what was computed, white for what was reused"
    assert "threshold 9, off scale" in [text.get_text() for text in made.legends[0].get_texts()]


def test_the_plot_opens_and_has_a_panel_for_each_image(finished: Finished) -> None:
    folder, record = finished
    pixels, _ = read_png(folder / "trace.png")
    assert pixels.shape[1] == 880 and pixels.std() > 10
    made = draw(record)
    assert [axes.get_title(loc="left").replace("\xa0", " ") for axes in panels(made)] == [
        "a red circle (seed 0)",
        "a blue square (seed 0)",
    ]
    for axes, sample in zip(panels(made), record["samples"], strict=True):
        computed = [step["index"] for step in sample["steps"] if step["computed"]]
        marks = squares(axes)
        assert [steps for face, steps in marks.items() if face != "white"] == [computed]
        assert marks["white"] == [step["index"] for step in sample["steps"] if not step["computed"]]
        curve = next(line for line in axes.lines if line.get_marker() == "None" and len(line.get_xdata()) > 2)
        assert list(curve.get_ydata()) == [step["signal"] for step in sample["steps"][1:]]
        limit = record["config"]["cache"]["criterion"]["threshold"]
        assert any(list(line.get_ydata()) == [limit, limit] for line in axes.lines)
        assert shaded(axes) == (1.5, 6.5)


def test_the_window_is_shaded(finished: Finished) -> None:
    record = deepcopy(finished[1])
    record["config"]["cache"].update(start=0.3, end=0.8)
    # steps 2, 3 and 4 of 6, counted from 0
    assert [shaded(axes) for axes in panels(draw(record))] == [(2.5, 5.5)] * 2


def test_an_accumulated_level_is_drawn_where_it_was_asked_for(finished: Finished) -> None:
    record = deepcopy(finished[1])
    for sample in record["samples"]:
        for step in sample["steps"]:
            step["level"] = step["index"] / 10 if step["index"] in (3, 4) else None
    axes = panels(draw(record))[0]
    curve = next(line for line in axes.lines if line.get_color() != "white" and len(line.get_xdata()) == 2)
    assert list(curve.get_xdata()) == [3, 4] and list(curve.get_ydata()) == [0.3, 0.4]


def test_a_schedule_has_decisions_alone(finished: Finished) -> None:
    record = deepcopy(finished[1])
    record["config"]["cache"]["criterion"] = {"name": "interval"}
    for sample in record["samples"]:
        for step in sample["steps"]:
            step["signal"] = step["level"] = None
    assert all(row.threshold is None for row in rows(record_from_data(record)))
    for axes in panels(draw(record)):
        assert {line.get_marker() for line in axes.lines} == {"s"} and not len(axes.get_yticks())


def test_many_images_are_drawn_in_part_and_listed_in_full(finished: Finished) -> None:
    record = deepcopy(finished[1])
    record["samples"] = [{**record["samples"][0], "file": f"images/{i:02d}.png"} for i in range(14)]
    assert len({row.file for row in rows(record_from_data(record))}) == 14
    made = draw(record)
    assert len(panels(made)) == 12
    assert "2 more in trace.csv" in [text.get_text() for text in made.legends[0].get_texts()]


@pytest.mark.filterwarnings("error")
def test_prompts_are_not_taken_for_formulas_nor_for_letters_that_the_font_lacks(finished: Finished) -> None:
    record = deepcopy(finished[1])
    record["samples"][0]["prompt"] = "$x^2$ \N{CJK UNIFIED IDEOGRAPH-732B}\x07 " + "word " * 60
    made = draw(record)
    made.savefig("/dev/null", format="png")
    title = panels(made)[0].get_title(loc="left")
    assert title.startswith("$x^2$ ?? word") and title.endswith("…") and len(title.splitlines()) == 2


def test_a_run_without_a_strategy_leaves_neither(planned: Callable[..., Plan], tmp_path: Path) -> None:
    record = run_as_data(planned(), tmp_path, [])
    assert record["status"] == "completed"
    assert not list(tmp_path.glob("trace.*"))
    trace_files.write_trace(tmp_path, record_from_data(record))
    assert not list(tmp_path.glob("trace.*"))


def test_images_of_one_schedule_share_a_panel(planned: Callable[..., Plan], tmp_path: Path) -> None:
    """What is computed of every image is the same, so one row of decisions says it."""
    record = run_as_data(planned("cache=taylorseer", "cache.interval=2", "num_images_per_prompt=3"), tmp_path, [])
    (panel,) = panels(draw(record))
    assert panel.get_title(loc="left") == f"{len(record['samples'])} images"
    apart = deepcopy(record)
    apart["samples"][1]["steps"][-1]["computed"] ^= True
    titles = [axes.get_title(loc="left").replace("\xa0", " ") for axes in panels(draw(apart))]
    assert len(titles) == 2 and titles[0] == f"{len(record['samples']) - 1} images" and "seed 1" in titles[1]


def test_steps_outside_of_a_window_over_noise_levels_are_on_record(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    overrides = ("cache=fbcache", "cache.residual_diff_threshold=9", "cache.window=sigmas", "cache.start=0.3")
    record = run_as_data(planned(*overrides), tmp_path, [])
    steps = record["samples"][0]["steps"]
    outside = [step["index"] for step in steps if step.get("outside_window")]
    assert outside and outside == list(range(1, len(outside) + 1)) and len(outside) < len(steps)
    assert [row["outside_window"] for row in table(tmp_path)][: len(steps)] == [
        str(int(step["index"] in outside)) for step in steps
    ]
    (first, *_) = panels(draw(record))
    assert shaded(first) == (len(outside) + 0.5, len(steps) + 0.5)
