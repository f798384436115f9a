"""The console table, on made-up records: right figures, at most 80 columns, whole paths."""

# ruff: noqa: RUF001
from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from wavespeed_runner.metrics.timing import summarize_timings
from wavespeed_runner.report.console import show, show_failure

COMPUTED = {1, 2, 3, 4, 5, 6, 12, 18, *range(24, 31)}
STRIP = "■■■■■■□□□□□■□□□□□■□□□□□■■■■■■■"
PROMPTS = ["a red circle above a blue square", "a [bold]green[/] triangle", "一只猫", ""]
FOLDER = "runs/2026-01-31/" + "a-long-name-" * 8


def steps(computed: set[int]) -> list[dict[str, Any]]:
    return [{"index": i, "computed": i + 1 in computed, "signal": 0.1, "seconds": 0.02} for i in range(30)]


def record(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """The demo's four images with a cache, as DESIGN section 5 has it."""
    (tmp_path / FOLDER).mkdir(parents=True, exist_ok=True)
    (tmp_path / FOLDER / "overview.png").touch()
    times, theirs = [0.701, 0.712, 0.699, 0.704], [1.21, 1.2, 1.23, 1.209]
    return {
        "status": "completed",
        "error": None,
        "config": {"model": {"name": "demo"}, "cache": {"name": "fbcache"}, "width": 64, "height": 64, "steps": 30},
        "environment": {"device": "cpu"},
        "samples": [
            {"prompt": p, "seconds": t, "reference_seconds": r, "source": "computed", "steps": steps(COMPUTED)}
            for p, t, r in zip(PROMPTS, times, theirs, strict=True)
        ],
        "timing": {**summarize_timings(times), "reference_median": 1.2095, "speedup": 1.7219},
        "quality": {
            "ssim": {"mean": 0.98123, "ci95": [0.97, 0.99], "worst": 0.97111},
            "mae_similarity": {"mean": 0.9951, "ci95": [0.99, 0.997], "worst": 0.9921},
            "psnr": {"mean": 34.23, "ci95": [31.0, 36.0], "worst": 31.04},
        },
        "reference": {"kind": "run"},
        "warnings": [],
        "output_dir": str(tmp_path / FOLDER),
        **changes,
    }


def printed(record: dict[str, Any], print_it: Any = show, **options: Any) -> list[str]:
    file = io.StringIO()
    print_it(record, Console(file=file, width=80, **options))
    lines = file.getvalue().splitlines()
    paths = [line for line in lines if record["output_dir"] in line]
    assert all(len(line) <= 80 for line in lines if line not in paths)
    return lines


def row(lines: list[str], label: str) -> str:
    """A row's cells, with single spaces."""
    (line,) = [line for line in lines if line.startswith(label)]
    return " ".join(line.removeprefix(label).split())


def test_the_demo(tmp_path: Path) -> None:
    lines = printed(record(tmp_path))
    assert "demo · 4 images of 64 × 64 · 30 steps · cpu" in lines
    assert row(lines, "    ") == "reference fbcache"
    assert row(lines, "time an image, median ± MAD") == "1.210 ± 0.005 s 0.702 ± 0.003 s"
    assert row(lines, "speedup") == "1.72×"
    assert row(lines, "steps computed / reused") == "30 / 0 15 / 15"
    assert row(lines, "SSIM, mean (worst)") == "0.9812 (0.9711)"
    assert row(lines, "MAE similarity, mean (worst)") == "0.9951 (0.9921)"
    assert row(lines, "PSNR in dB, mean (worst)") == "34.2 (31.0)"
    assert lines.count(STRIP) == 1
    assert f"  {tmp_path / FOLDER}" in lines and f"  {tmp_path / FOLDER / 'overview.png'}" in lines


def test_no_cache(tmp_path: Path) -> None:
    base = record(tmp_path)
    base["config"]["cache"]["name"] = "none"
    for sample in base["samples"]:
        sample.update(steps=steps(set(range(1, 31))), reference_seconds=None)
    base["timing"].update(reference_median=None, speedup=None)
    lines = printed({**base, "quality": {}, "reference": {"kind": "self"}})
    assert row(lines, "    ") == "no cache"
    assert row(lines, "time an image, median ± MAD") == "702 ± 3 ms"
    assert row(lines, "steps computed / reused") == "30 / 0"
    text = "\n".join(lines)
    assert "itself the reference" in text and "speedup" not in text and "SSIM" not in text and "□" not in text


def test_nothing_was_denoised(tmp_path: Path) -> None:
    base = record(tmp_path)
    for sample in base["samples"]:
        sample["source"] = "store"
    text = " ".join(" ".join(printed(base)).split())
    assert "Nothing was denoised" in text and "rerun=true computes it again" in text
    base["samples"][0]["source"] = "computed"
    assert "3 of 4 images came from the store" in " ".join(printed(base))


def test_never_hit(tmp_path: Path) -> None:
    base = record(tmp_path, warnings=["cache=fbcache [x] reused no step: " + "raise the threshold, " * 6])
    for sample in base["samples"]:
        sample["steps"] = steps(set(range(1, 31)))
    base["quality"]["psnr"] = {"mean": None, "ci95": None, "worst": None}
    lines = printed(base)
    assert row(lines, "steps computed / reused") == "30 / 0 30 / 0"
    assert row(lines, "PSNR in dB") == "identical"
    assert any(line.startswith("warning: cache=fbcache [x] reused no step") for line in lines)


def test_images_that_differ_get_a_strip_each_with_their_prompt(tmp_path: Path) -> None:
    base = record(tmp_path)
    base["samples"][1]["steps"] = steps(COMPUTED | {10, 11})
    lines = printed(base)
    assert row(lines, "steps computed / reused") == "30 / 0 15-17 / 13-15"
    assert f"{STRIP}  a red circle above a blue square" in lines
    assert any(line.endswith("a [bold]green[/] triangle") for line in lines)


def test_repeats_of_the_reference_and_the_name_of_the_gpu(tmp_path: Path) -> None:
    base = record(tmp_path, environment={"device": "cuda:0", "device_name": "NVIDIA H200"})
    base["timing"].update(summarize_timings([3.0, 3.25, 3.5]), reference_raw=[12.0, 12.5, 14.0], reference_median=12.5)
    lines = printed(base)
    assert "demo · 4 images of 64 × 64 · 30 steps · NVIDIA H200" in lines
    assert row(lines, "time an image, median ± MAD") == "12.50 ± 0.50 s 3.25 ± 0.25 s"


def test_one_image_has_no_spread(tmp_path: Path) -> None:
    base = record(tmp_path)
    base["samples"] = base["samples"][:1]
    base["timing"].update(summarize_timings([0.7]))
    lines = printed(base)
    assert row(lines, "time an image") == "1.210 s 0.700 s"
    assert row(lines, "SSIM") == "0.9812"


def test_the_share_of_flops_stands_under_the_speedup(tmp_path: Path) -> None:
    counted = {"strategy": "fbcache", "flop_share": 0.536, "denoiser_flop_share": 0.551}
    base = record(tmp_path, engaged={"cache": counted})
    assert row(printed(base), "FLOPs of blocks / denoiser") == "100 % / 100 % 54 % / 55 %"
    unknown = {"flop_share": None, "denoiser_flop_share": None, "flops_missing": "no warm-up (measure.warmup=0)"}
    lines = printed({**base, "engaged": {"cache": unknown}})
    assert not any(line.startswith("FLOPs") for line in lines)
    assert "The share of FLOPs was not counted: no warm-up (measure.warmup=0)." in lines


def test_what_a_calibration_foretold_stands_under_what_was_computed(tmp_path: Path) -> None:
    base = record(tmp_path, cache={"foretold": {"calibration": "demo (shipped)", "computed_steps": [1, 2, 3, 30]}})
    lines = printed(base)
    at = lines.index(STRIP)
    assert lines[at + 1] == "■■■" + "□" * 26 + "■  foretold by the calibration"


def test_the_plot_of_the_decisions_is_named(tmp_path: Path) -> None:
    base = record(tmp_path)
    assert "what the cache decided at each step" not in printed(base)
    (tmp_path / FOLDER / "trace.png").touch()
    lines = printed(base)
    assert lines[lines.index("what the cache decided at each step") + 1] == f"  {tmp_path / FOLDER / 'trace.png'}"


@pytest.mark.parametrize(
    ("status", "kind", "wanted"),
    [
        ("failed", "RunError", "error: stage denoise: first second (see "),
        ("failed", "ValueError", "error: stage denoise: ValueError: first second (see "),
        ("interrupted", "KeyboardInterrupt", "error: stage denoise: interrupted; the same command"),
    ],
)
def test_a_run_that_stopped_is_one_line(tmp_path: Path, status: str, kind: str, wanted: str) -> None:
    error = {"stage": "denoise", "type": kind, "message": "first\n second"}
    base = record(tmp_path, status=status, error=error)
    for print_it in (show, show_failure):
        lines = printed(base, print_it)
        assert len(lines) == 1
        assert lines[0].startswith(wanted)
        assert str(tmp_path / FOLDER / "record.json") in lines[0]


def test_a_log_that_is_not_utf8_and_a_prompt_with_control_characters(tmp_path: Path) -> None:
    base = record(tmp_path)
    base["samples"][0]["prompt"] = "bell \x07 and \x1b[31mred"
    base["samples"][1]["steps"] = steps(COMPUTED | {10, 11})
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii") as file:
        show(base, Console(file=file, width=80))
        file.flush()
        text = raw.getvalue().decode("ascii")
    assert "4 images of 64 x 64, 30 steps" in text and "1.72x" in text and "0.702 +- 0.003 s" in text
    assert STRIP.replace("■", "#").replace("□", ".") + "  bell ? and ?[31mred" in text
    assert "\x1b" not in text and "\x07" not in text


def test_timings_of_different_runs_are_said(tmp_path: Path) -> None:
    base = record(tmp_path)
    base["timing"]["same_run"] = False
    lines = printed(base)
    assert "timed in different runs" in " ".join(lines)
    assert row(lines, "speedup").startswith("~")
    base["timing"]["same_run"] = True
    lines = printed(base)
    assert "timed in different runs" not in " ".join(lines)
    assert not row(lines, "speedup").startswith("~")
