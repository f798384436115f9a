"""`compare`: which runs belong together, what differs, and the verdicts, against what the figures were made to be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.report.html_parts import stands_alone
from tests.report.records import varied, write_job, write_sweep
from wavespeed_runner.cli.main import main
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.metrics.statistics import Interval
from wavespeed_runner.records.quality_summary import Quality
from wavespeed_runner.report.compare import compare
from wavespeed_runner.report.compare.page import page
from wavespeed_runner.report.compare.sides import Settings, name_sides, split_settings
from wavespeed_runner.report.compare.verdicts import BETTER, OPEN, SAME, WORSE, compare_mean, compare_ratio

Finished = tuple[Path, dict[str, Any]]
KEY = "cache.residual_diff_threshold"


def many(record: dict[str, Any], seconds: list[float], ssims: list[float]) -> dict[str, Any]:
    """The record with so many prompts, of these times and qualities."""
    made = varied(record, [])
    (first, *_) = made["samples"]
    made["samples"] = [
        {
            **first,
            "prompt": f"prompt {number}",
            "seed": number,
            "seconds": time,
            "raw_seconds": [time],
            "quality": {**first["quality"], "ssim": ssim},
        }
        for number, (time, ssim) in enumerate(zip(seconds, ssims, strict=True))
    ]
    return made


def figures(folders: list[Path]) -> dict[str, list[str]]:
    (match,) = compare(folders).matches
    return {name: [one.verdict for one in line] for name, line in match.figures}


def test_image_by_image_small_differences_are_settled_where_images_vary_more(
    tmp_path: Path, finished: Finished
) -> None:
    """Qualities vary by 0.05 from prompt to prompt, and the second run is 0.004 better for each of them."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.9, 0.99, 24)
    times = rng.uniform(1.0, 2.0, 24)
    write_job(tmp_path / "a", many(finished[1], times.tolist(), base.tolist()))
    write_job(tmp_path / "b", many(finished[1], (0.8 * times).tolist(), (base + 0.004).tolist()))
    write_job(tmp_path / "c", many(finished[1], (1.01 * times).tolist(), (base - 0.0005).tolist()))
    write_job(tmp_path / "d", many(finished[1], (1.2 * times).tolist(), rng.permutation(base).tolist()))
    found = figures([tmp_path / name for name in "abcd"])
    assert found["time per image"] == ["", BETTER, SAME, WORSE]
    assert found["SSIM, mean"] == ["", BETTER, SAME, OPEN]


def test_other_prompts_are_compared_by_their_intervals(tmp_path: Path, finished: Finished) -> None:
    write_job(tmp_path / "a", many(finished[1], [1.0] * 8, [0.95, 0.96] * 4))
    other = many(finished[1], [1.0] * 8, [0.99, 0.995] * 4)
    for number, sample in enumerate(other["samples"]):
        sample["prompt"] = f"another {number}"
    write_job(tmp_path / "b", other)
    (match,) = compare([tmp_path / "a", tmp_path / "b"]).matches
    assert dict(match.settings)["images"][0].startswith("8 of 8 prompts: prompt 0")
    assert figures([tmp_path / "a", tmp_path / "b"])["SSIM, mean"] == ["", BETTER]


@given(st.floats(0.1, 10), st.floats(0, 0.5), st.booleans())
def test_a_ratio_s_verdict_is_that_of_its_interval(value: float, width: float, less: bool) -> None:
    low, high = value * (1 - width), value * (1 + width)
    one = Interval(value=1.0, low=1.0, high=1.0)
    told = compare_ratio(one, one, Interval(value=value, low=low, high=high), less=less)
    if low >= 0.97 and high <= 1.03:
        assert told == SAME
    elif low > 1 or high < 1:
        assert told == (BETTER if (high < 1) is less else WORSE)
    else:
        assert told == OPEN
    assert compare_ratio(None, one, None, less=less) == ""


@given(st.floats(-0.2, 0.2), st.floats(0, 0.1), st.booleans())
def test_less_may_be_better(difference: float, width: float, less: bool) -> None:
    mean = Interval(value=0.0, low=0.0, high=0.0)
    quality = Quality(mean=mean, median=0, p10=0, worst=0, worst_prompt="", worst_seed=0, less_is_better=less)
    found = Interval(value=difference, low=difference - width, high=difference + width)
    turned = Interval(value=-difference, low=-found.high, high=-found.low)
    told, opposite = (compare_mean(quality, quality, one, 0.001) for one in (found, turned))
    assert {told, opposite} in ({BETTER, WORSE}, {SAME}, {OPEN})
    if told == BETTER:
        assert (difference < 0) is less


def test_settings_and_hardware_that_differ_are_listed_and_others_are_not(tmp_path: Path, finished: Finished) -> None:
    first, second = varied(finished[1], []), varied(finished[1], [], steps=14)
    second["environment"] = {**second["environment"], "device_name": "Another CPU"}
    second["config"]["outputs"] = "elsewhere"
    write_job(tmp_path / "a", first)
    write_job(tmp_path / "b", second)
    (match,) = compare([tmp_path / "a", tmp_path / "b"]).matches
    settings = dict(match.settings)
    assert settings["steps"] == ["28", "14"] and "Another CPU" in settings["hardware"][1]
    assert set(settings) == {"steps", "hardware"}


def sweep(folder: Path, record: dict[str, Any], thresholds: tuple[float, ...], seconds: float) -> Path:
    jobs = [[f"{KEY}={threshold}"] for threshold in thresholds]
    for number, overrides in enumerate(jobs):
        write_job(folder / str(number), varied(record, overrides, seconds=seconds + number / 10))
    write_sweep(folder, [{"overrides": overrides} for overrides in jobs], [KEY])
    return folder


def test_jobs_of_sweeps_belong_together_where_the_same_was_typed(
    tmp_path: Path, finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    a = sweep(tmp_path / "a", finished[1], (0.05, 0.1, 0.2), 1.0)
    b = sweep(tmp_path / "b", finished[1], (0.1, 0.2, 0.4), 0.5)
    found = compare([a, b])
    assert [match.label for match in found.matches] == ["0.1", "0.2"]
    assert [[row.axes[KEY] for row in match.rows if row] for match in found.matches] == [["0.1"] * 2, ["0.2"] * 2]
    assert found.left_out == [(found.names[0], ["0.05"]), (found.names[1], ["0.4"])]
    assert main(["compare", str(a), str(b)]) == 0
    out = capsys.readouterr().out
    assert "better" in out and "only in B" in out and str(a) in out.replace("\n", "")


def test_what_cannot_be_compared_is_told(
    tmp_path: Path, finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    a = sweep(tmp_path / "a", finished[1], (0.05, 0.1), 1.0)
    b = sweep(tmp_path / "b", finished[1], (0.3, 0.4), 1.0)
    with pytest.raises(ConfigError, match="none of its 2 jobs has the values of a job of another side"):
        compare([a, b])
    write_job(tmp_path / "c", {**varied(finished[1], []), "status": "failed"})
    with pytest.raises(ConfigError, match="no run below it is complete"):
        compare([a, tmp_path / "c"])
    assert main(["compare", str(a)]) == 2 and "2 to 8 are compared" in capsys.readouterr().err
    assert main(["compare", str(a), str(b), "out=x.png"]) == 2 and "ends in .html" in capsys.readouterr().err


def test_the_page_has_the_images_and_escapes_what_records_say(tmp_path: Path, finished: Finished) -> None:
    folder, record = finished
    bad = "<script>alert(1)</script>"
    other = varied(record, [])
    other["environment"] = {**other["environment"], "device_name": bad}
    write_job(tmp_path / "a", other)
    made = page(compare([folder, tmp_path / "a"]))
    assert bad not in made and "&lt;script&gt;" in made
    made = page(compare([folder, folder]))
    shown = len(record["samples"])
    assert made.count("data:image/webp") == 3 * shown and "SSIM 0." in made, "each side's, and the reference once"
    assert made.count("<figcaption>reference</figcaption>") == shown
    assert stands_alone(made)


def test_sides_with_other_references_show_each(tmp_path: Path, finished: Finished) -> None:
    folder, _ = finished
    other = shutil.copytree(folder, tmp_path / "other")
    for file in (other / "reference").iterdir():
        Image.new("RGB", Image.open(file).size, "red").save(file)
    made = page(compare([folder, other]))
    assert made.count(">reference of A</figcaption>") == made.count(">reference of B</figcaption>") > 0


def named(tmp_path: Path, finished: Finished, *changes: dict[str, Any]) -> tuple[list[str], Settings, Settings]:
    """Names of sides with these caches, steps or devices, and their settings."""
    for number, change in enumerate(changes):
        record = varied(finished[1], change.get("typed", []), steps=change.get("steps", 28))
        record["config"]["cache"] = {**record["config"]["cache"], **change.get("cache", {})}
        for sample in record["samples"] if "prompt" in change else ():
            sample["prompt"] = change["prompt"]
        record["environment"] = {**record["environment"], "device_name": change.get("device", "CPU")}
        write_job(tmp_path / str(number), record)
    (match,) = compare([tmp_path / str(number) for number in range(len(changes))]).matches
    return name_sides(match), *split_settings(match.settings)


def test_sides_are_named_by_what_tells_them_apart_and_keys_that_follow_from_it_step_back(
    tmp_path: Path, finished: Finished
) -> None:
    other = {"name": "taylorseer", "interval": 5}
    names, chosen, filled = named(tmp_path / "a", finished, {}, {"cache": other})
    assert names == ["fbcache", "taylorseer"] and ("cache", ["fbcache", "taylorseer"]) in chosen
    assert ("cache.interval", ["", "5"]) in filled
    names, chosen, filled = named(tmp_path / "b", finished, {"device": "RTX"}, {"device": "H200"})
    assert [name.split()[0] for name in names] == ["RTX", "H200"] and not filled
    names, chosen, filled = named(tmp_path / "c", finished, {}, {})
    assert names == ["", ""] and not chosen and not filled
    prompts = (("none", "a"), ("fbcache", "a red circle"), ("fbcache", "a blue square"))
    names, _, _ = named(tmp_path / "e", finished, *({"cache": {"name": name}, "prompt": one} for name, one in prompts))
    assert names == ["no cache", "fbcache, a red circle", "fbcache, a blue square"]
    alike = [{"prompt": f"the same words at the beginning, and more of them, {end}"} for end in ("one", "another")]
    names, _, _ = named(tmp_path / "g", finished, *alike)
    assert [name.rpartition(", ")[2] for name in names] == ["one", "another"], names
    names, _, _ = named(tmp_path / "f", finished, {"device": "RTX"}, {"device": "H200"}, {"device": "H200", "steps": 9})
    assert [name.split(" (")[0] for name in names] == ["fbcache, RTX", "fbcache, H200", "fbcache, 9 steps"]
    change = {"cache": {"residual_diff_threshold": 0.3}}
    names, chosen, filled = named(tmp_path / "d", finished, {}, change)
    assert chosen and not filled, "the same option: its keys were chosen"


def test_one_prompt_settles_nothing_and_few_prompts_seldom_do(tmp_path: Path, finished: Finished) -> None:
    """Runs that are equal but for noise: at most about one verdict in twenty may be wrong."""
    rng = np.random.default_rng(4)
    write_job(tmp_path / "a", many(finished[1], [1.0], [0.9]))
    write_job(tmp_path / "b", many(finished[1], [1.2], [0.95]))
    found = figures([tmp_path / "a", tmp_path / "b"])
    assert found["time per image"] == ["", OPEN] and found["SSIM, mean"] == ["", OPEN]
    wrong = 0
    for trial in range(60):
        for name in "ab":
            ssims = 0.9 + rng.normal(0, 0.02, 5)
            write_job(tmp_path / str(trial) / name, many(finished[1], [1.0] * 5, ssims.tolist()))
        verdict = figures([tmp_path / str(trial) / name for name in "ab"])["SSIM, mean"][1]
        wrong += verdict in (BETTER, WORSE)
    assert wrong <= 8, "3 are expected, and more than 8 with less than one chance in a hundred"


def test_an_image_without_any_difference_counts_in_the_psnr(tmp_path: Path, finished: Finished) -> None:
    """Seven of eight images are identical in the first run, and none in the second, which has the better others."""
    first, second = (many(finished[1], [1.0] * 8, [0.99] * 8) for _ in range(2))
    for number, (a, b) in enumerate(zip(first["samples"], second["samples"], strict=True)):
        a["quality"] |= {"mae": 1.0, "psnr": 30.0} if number == 0 else {"mae": 0.0, "psnr": None}
        b["quality"] |= {"mae": 1.0, "psnr": 35.0}
    write_job(tmp_path / "a", first)
    write_job(tmp_path / "b", second)
    assert figures([tmp_path / "a", tmp_path / "b"])["PSNR in dB, mean"] == ["", WORSE]


def test_the_same_again_is_another_run_and_failures_are_named(tmp_path: Path, finished: Finished) -> None:
    a = sweep(tmp_path / "a", finished[1], (0.1, 0.1, 0.2), 1.0)
    b = sweep(tmp_path / "b", finished[1], (0.1, 0.1), 0.5)
    write_job(a / "2", {**varied(finished[1], [f"{KEY}=0.2"]), "status": "failed"})
    found = compare([a, b])
    assert len(found.matches) == 2 and found.left_out == [(found.names[0], ["0.2 (failed)"])]


@pytest.mark.parametrize("name", ["images", "reference", "record.json", "lost.json", "config.yaml", "run.lock"])
def test_links_in_a_circle_end_neither_report_nor_comparison(name: str, finished: Finished, tmp_path: Path) -> None:
    """`Path.resolve` raises a RuntimeError for them, which nobody expects."""
    for job in "ab":
        write_job(tmp_path / "s" / job, finished[1])
        for folder in ("images", "reference"):
            (tmp_path / "s" / job / folder).mkdir(exist_ok=True)
    place = tmp_path / "s" / "a" / name
    if place.is_dir():
        place.rmdir()
    place.unlink(missing_ok=True)
    place.symlink_to(name)
    assert main(["report", str(tmp_path / "s"), f"out={tmp_path / 'out'}"]) == 0
    status = main(["compare", str(tmp_path / "s" / "b"), str(tmp_path / "s" / "a"), f"out={tmp_path / 'c.html'}"])
    assert status == (2 if name in ("record.json", "lost.json") else 0), "without one there is nothing to compare"
