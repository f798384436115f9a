"""From raw results to fronts, tables and the image."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.peers import plot
from benchmarks.peers.figures import Point, front, load, lowest_error, lowest_share
from benchmarks.peers.table import page

numbers = st.floats(0, 1, allow_nan=False)


def setting(name: str, group: str, by: str, share: float, error: float, ssim: list[float], seconds: float) -> dict:
    """As `benchmarks.peers` writes it, of two prompts and two rounds; the second round was twice as slow."""
    return {
        "name": name, "group": group, "by": by, "parameters": {}, "steps": None,
        "share": [share, share], "error": [error, error], "ssim": ssim, "latents": [f"{error}", "b"],
        "wall_seconds": [9.0, 9.0], "cpu_seconds": [seconds, 2 * seconds],
    }  # fmt: skip


SETTINGS = [
    setting("no cache", "no cache", "reference", 1.0, 0.0, [1.0, 1.0], 1.0),
    setting("FBC 0.1", "diffusers First Block Cache", "theirs", 0.6, 0.02, [0.99, 0.995], 0.7),
    setting("FBC 0.2", "diffusers First Block Cache", "theirs", 0.4, 0.04, [0.9, 0.98], 0.5),
    setting("mask", "cache-dit step mask, reuse", "theirs", 0.6, 0.02, [0.99, 0.995], 0.6),
    setting("14 steps", "fewer steps", "fewer steps", 0.5, 0.05, [0.93, 0.97], 0.5),
    setting("our mask", "ours, fitted", "ours", 0.4, 0.01, [0.99, 0.99], 0.45),
    {"name": "DeepCache 2", "group": "DeepCache", "by": "theirs", "cannot": "AttributeError: no unet"},
]


@pytest.fixture
def folder(tmp_path):
    raw = {
        "command": "python -m benchmarks.peers", "model": "demo", "steps": 28, "unit": "transformer blocks",
        "environment": {"versions": {"torch": "2", "diffusers": "0"}, "peers": {"DeepCache": "1"}, "device_name": "x"},
        "prompts": [{"text": "a red circle", "seed": 0}, {"text": "a blue circle", "seed": 1}],
        "rounds": [1, 1], "settings": SETTINGS,
    }  # fmt: skip
    (tmp_path / "peers_demo.json").write_text(json.dumps(raw), encoding="utf-8")
    costs = {"no cache": {"computed": [0.002, 0.001, 0.009]}, "FBC, always": {"skipped": [0.0005]}, "absent": {}}
    (tmp_path / "peers_cost_demo.json").write_text(json.dumps({"seconds": costs}), encoding="utf-8")
    return tmp_path


@given(st.lists(st.tuples(numbers, numbers), min_size=1))
def test_front_holds_what_nothing_is_better_than(pairs):
    found = front(pairs)
    assert set(found) <= set(pairs)
    for cost, loss in pairs:
        assert any(c <= cost and q <= loss for c, q in found)
    for one in found:
        assert not any(c <= one[0] and q <= one[1] and (c, q) != one for c, q in pairs)


def test_time_is_compared_round_by_round(folder):
    points = {point.name: point for point in load("demo", folder).points}
    assert points["FBC 0.1"].time == pytest.approx(0.7)
    assert points["FBC 0.1"].seconds == pytest.approx((1.05, 0.7, 1.4))


def test_statistics_over_prompts(folder):
    quality = next(point for point in load("demo", folder).points if point.name == "FBC 0.2").quality
    assert quality == pytest.approx({"mean": 0.94, "median": 0.94, "tail": 0.908})


def test_lowest_share_and_error(folder):
    results = load("demo", folder)
    theirs = results.of("diffusers First Block Cache")
    assert lowest_share(theirs, 0.99) == 0.6
    assert lowest_share(theirs, 0.9) == 0.4
    assert lowest_share(theirs, 0.999) is None
    best = lowest_error(theirs, 0.6)
    assert isinstance(best, Point) and best.name == "FBC 0.1"
    assert lowest_error(theirs, 0.3) is None


def test_page_tells_levels_equal_latents_refusals_and_the_comparison(folder):
    text = page({"demo": load("demo", folder)})
    assert "| diffusers First Block Cache | 60.0 % | 60.0 % | 60.0 % | **40.0 %** |" in text
    assert "| ours, fitted | **40.0 %** | **40.0 %** | **40.0 %** | **40.0 %** |" in text
    assert "- FBC 0.1 = mask" in text
    assert "- DeepCache 2: AttributeError: no unet" in text
    # Ours has 0.01: half of 0.02 and a quarter of 0.04.
    assert "| diffusers First Block Cache | 2 of 2 | 2 | 0.50 | FBC 0.1 / our mask |" in text


def test_page_tells_costs(folder):
    text = page({"demo": load("demo", folder)})
    assert "| no cache | 2000 | - |\n| FBC, always | - | 500 |\n\n" in text


def test_image_and_page_are_written(folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["plot", "--results", str(folder), "--docs", str(folder)])
    plot.main()
    assert (folder / "cache_pareto_demo.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "cache_benchmark.md").read_text(encoding="utf-8")
    assert page.startswith("# The cache engine compared with its peers")


def test_without_results_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["plot", "--results", str(tmp_path), "--docs", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"python -m benchmarks\.peers"):
        plot.main()
