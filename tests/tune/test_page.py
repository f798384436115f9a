"""`tune.html`: the plot, the images of the answer, and how to use it."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.html_parts import stands_alone, whole_text
from tests.tune.found import COMMANDS, found, page_of, result
from wavespeed_runner.cli.tune import parse_budget
from wavespeed_runner.tune.ablation import Ablation
from wavespeed_runner.tune.aim import Aim
from wavespeed_runner.tune.answer import summarize
from wavespeed_runner.tune.figure import _scale, draw
from wavespeed_runner.tune.page import render_page
from wavespeed_runner.tune.result import describe_time
from wavespeed_runner.tune.sentence import describe_answer

Finished = tuple[Path, dict[str, Any]]


def test_the_front_goes_in_steps_through_the_settings_on_it_and_the_answer_is_marked(tmp_path: Path) -> None:
    plot = draw(found(tmp_path))
    places = {(one["x"], one["y"]) for one in plot["points"]}
    assert len(places) == 5 and all(0 <= place <= 100 for pair in places for place in pair)
    assert all(x1 == x2 or y1 == y2 for x1, y1, x2, y2 in plot["front"]), "no slope"
    ends = [plot["front"][0][:2], *(line[2:] for line in plot["front"][1::2])]
    assert len(ends) == 3 and set(ends) <= places, "the three settings that no other beats on all prompts"
    assert [x for x, _ in ends] == sorted(x for x, _ in ends)
    assert plot["answer"]["y"] < plot["bounds"][0][0], "it keeps the bound, so it is above"
    assert [one["whole"] for one in plot["points"]] == [False, True, True, True, True]


def test_what_is_large_is_said_with_how_many_prompts_it_was_tried_on(tmp_path: Path) -> None:
    """A budget may end before anything was tried on all prompts."""
    tuning = found(tmp_path)
    assert draw(tuning)["sizes"] == "Large: on all prompts for tuning, with 95 % intervals. Small: on fewer."
    tuning.tuning.prompts = ["a"] * 32
    assert "Large: on 16 of the 32 prompts for tuning, the most so far, with" in page_of(tuning)
    tuning.tuning.results = [one for one in tuning.tuning.results if one.prompts == 16]
    assert "Small" not in draw(tuning)["sizes"]
    assert "The answer is drawn with" in page_of(tuning) and "is drawn with" not in page_of(
        found(tmp_path, answered=False)
    )


def test_a_sampler_has_another_colour_than_a_cache_of_its_name(tmp_path: Path) -> None:
    tuning = found(tmp_path)
    both = [result(tmp_path, 0.2, 0.98, cache="fitted"), result(tmp_path, 0.3, 0.99, sampler="fitted")]
    tuning.tuning.results.extend(both)
    colours = {kind["name"]: kind["colour"] for kind in draw(tuning)["kinds"]}
    assert colours["fitted"] != colours["sampler fitted"]


def test_more_groups_than_colours_have_other_shapes(tmp_path: Path) -> None:
    tuning = found(tmp_path, answered=False)
    tuning.tuning.results = [result(tmp_path, 0.2 + place / 100, 0.98, cache=f"c{place:02d}") for place in range(40)]
    plot, made = draw(tuning), page_of(tuning)
    marks = {kind["name"]: (kind["colour"], kind["shape"]) for kind in plot["kinds"]}
    assert len(set(marks.values())) == 40 and marks["c00"] == (0, 0) and marks["c08"] == (0, 1)
    assert [(one["colour"], one["shape"]) for one in plot["points"]] == list(marks.values()), "as in the legend"
    drawn = re.findall(r'class="mark" (?:d|r)="[^"]*" fill="[^"]*"', made)
    assert len(drawn) == 80 and len(set(drawn)) == 40, "each in the plot and in the legend"


def test_the_answer_to_a_limit_of_time_says_its_time(tmp_path: Path) -> None:
    tuning = found(tmp_path)
    assert "s an image" not in describe_answer(tuning)
    tuning.aim = replace(tuning.aim, seconds=3.0)
    assert tuning.answer and "(300 ms an image)" in describe_answer(tuning)
    assert "the reference itself" not in describe_answer(tuning), "it has a bound to keep as well"


@pytest.mark.parametrize(("seconds", "said"), [(3.0, True), (0.5, False)])
def test_a_reference_that_is_within_the_time_is_told(tmp_path: Path, seconds: float, said: bool) -> None:
    tuning = found(tmp_path)
    tuning.aim = replace(tuning.aim, bounds=[], seconds=seconds)
    assert tuning.answer and tuning.answer.seconds * tuning.answer.speedup == pytest.approx(1.0)
    assert ("; the reference itself takes 1 s, which is within 3" in describe_answer(tuning)) is said


def test_times_have_two_or_three_digits_and_their_unit() -> None:
    times = (0.0091, 0.03, 0.0302, 0.15549, 0.9994, 0.99951, 1.5304, 12.44, 140.2)
    said = ["9.1 ms", "30 ms", "30.2 ms", "155 ms", "999 ms", "1 s", "1.53 s", "12.4 s", "140 s"]
    assert [describe_time(one) for one in times] == said


def test_a_limit_of_time_is_told_as_it_was_typed() -> None:
    aim = Aim(bounds=[], seconds=0.06, typed="60ms")
    assert str(aim) == "the best ssim with time<=60ms" and aim.limit == "60ms"
    assert str(replace(aim, typed="")) == "the best ssim with time<=0.06s"


def test_where_a_time_is_limited_the_page_shows_times_and_the_limit(tmp_path: Path) -> None:
    tuning = found(tmp_path)
    tuning.ablation = [Ablation(without="steps=12", result=tuning.answer)]
    assert "an image" not in page_of(tuning).replace("full runs of one image", "") and not draw(tuning)["limits"]
    tuning.aim = Aim(bounds=[], seconds=0.4, typed="400ms")
    made, plot = page_of(tuning), draw(tuning)
    ((place, said),) = plot["limits"]
    (near,) = (one["x"] for one in plot["points"] if one["text"].startswith("sampler=unipc: 500 ms an image, "))
    assert said == "time<=400ms" and near == pytest.approx(place * 500 / 400, abs=0.01)
    assert plot["x_ticks"][-1][1].endswith(" ms") and plot["x_name"] == "median time to denoise an image"
    assert f'<line class="bound" x1="{place}%" x2="{place}%"' in made and "time&lt;=400ms" in made
    assert made.count('data-label="an image">300 ms</td>') >= 2 and "no<small> more than 400ms</small>" in made
    assert made.count('<th role="columnheader" scope="col">an image</th>') == 3


def test_what_was_judged_and_missed_says_by_which_limit(tmp_path: Path) -> None:
    """It may keep the bounds with the confidence of the others, which would be told as kept."""
    missed = result(tmp_path, 0.3, 0.9722, sampler="deis")
    tuning = found(tmp_path, missed=[missed], confidences={missed.setting.identity: 0.9999})
    (row,) = summarize(tuning)["missed"]
    assert tuning.aim.is_met(missed) and not row["met"] and "confidence limit, 0.9" in row["misses"]
    assert f"no<small> {row['misses']}</small>" in unescape(whole_text(page_of(tuning)))


def test_a_budget_is_a_time_or_a_number_of_jobs() -> None:
    assert [parse_budget(text) for text in ("3m", "3min", "90s", "2h", "40jobs")] == [
        (None, 180.0), (None, 180.0), (None, 90.0), (None, 7200.0), (40, None),
    ]  # fmt: skip


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9).map(lambda many: [round(one, 4) for one in many]),
    st.booleans(),
)
def test_an_axis_has_room_for_all_and_a_few_ticks(values: list[float], from_low: bool) -> None:
    place, ticks = _scale(values, from_low=from_low)
    assert all(0 <= place(value) <= 100 for value in [*values, *ticks]) and len(ticks) <= 9
    assert [place(one) for one in ticks] == sorted({place(one) for one in ticks})


def test_images_of_the_answer_stand_beside_their_references(finished: Finished) -> None:
    folder, record = finished
    made = page_of(found(folder))
    count = len(record["samples"])
    assert made.count('alt="reference: ') == made.count('alt="the answer: ') == min(count, 4) > 1
    worst = min(sample["quality"]["ssim"] for sample in record["samples"])
    assert f"the answer, ssim {worst:.4g}" in made and "<b>the worst image" in made
    assert 'alt="what comes nearest: ' in page_of(found(folder, answered=False))


def test_the_page_says_how_to_use_the_answer_and_follows_the_colours_of_the_window(finished: Finished) -> None:
    made = page_of(found(finished[0]))
    assert stands_alone(made)
    (what, before, command) = COMMANDS[0]
    said = unescape(whole_text(made))
    assert f"{what}: {before}, then" in said and f'<code id="command-1">{command}</code>' in said
    assert made.count("data-copy=") == 1
    assert "var(--group0)" in made and "data:image/png" not in made


@pytest.mark.parametrize("folder", ["gone", "empty"])
def test_without_the_images_the_page_is_made_all_the_same(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    made = page_of(found(tmp_path / folder))
    assert "Images of the answer" not in made and "Everything that was tried" in made


def test_names_from_files_stay_text(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    tuning = found(tmp_path)
    tuning.tuning.results.append(result(tmp_path, 0.4, 0.9, sampler=bad))
    made = page_of(tuning)
    assert bad not in made and "&lt;script&gt;" in made and stands_alone(made)


def test_what_became_of_shared_settings_is_a_table_of_its_own(tmp_path: Path) -> None:
    tuning = found(tmp_path)
    data = summarize(tuning)
    shared = [{"file": "a_b.yaml", "setting": "steps=5", "said": "<b>tried"}]
    more = {"intervals": "why there are two", "shared": shared, "taken_back": data["tried"][:1]}
    made = render_page(tuning, {**data, **more}, "", []).decode().replace("<wbr>", "")
    assert "From shared experiments" in made and "a_b.yaml" in made and "&lt;b&gt;tried" in made
    assert "Taken back, and not judged" in made and "why there are two" in made
    assert "From shared experiments" not in page_of(tuning) and "Taken back" not in page_of(tuning)
