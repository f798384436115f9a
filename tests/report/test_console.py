"""The console table, on made-up records: right figures, at most 80 columns, whole paths."""

# ruff: noqa: RUF001
from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from tests.records import makers
from wavespeed_runner.metrics.timing import summarize_timings
from wavespeed_runner.records.record import (
    CacheSummary,
    Failure,
    MetricSummary,
    PredictedSteps,
    QualitySummary,
    Record,
    Reference,
)
from wavespeed_runner.records.sample import Metrics, Step
from wavespeed_runner.report.console import show, show_failure

COMPUTED = {1, 2, 3, 4, 5, 6, 12, 18, *range(24, 31)}
STRIP = "■■■■■■□□□□□■□□□□□■□□□□□■■■■■■■"
PROMPTS = ["a red circle above a blue square", "a [bold]green[/] triangle", "一只猫", ""]
FOLDER = "runs/2026-01-31/" + "a-long-name-" * 8


def steps(computed: set[int]) -> list[Step]:
    return [
        Step(index=i, computed=i in computed, signal=0.1, level=None, seconds=0.02, stage="denoise")
        for i in range(1, 31)
    ]


def metric(mean: float | None, low: float, high: float, worst: float | None) -> MetricSummary:
    return MetricSummary(mean=mean, ci95=[low, high], worst=worst)


@pytest.fixture
def base(tmp_path: Path) -> Record:
    """The demo's four images with a cache."""
    times, reference_times = [0.701, 0.712, 0.699, 0.704], [1.21, 1.2, 1.23, 1.209]
    return makers.record(
        config={"model": {"name": "demo"}, "cache": {"name": "fbcache"}, "width": 64, "height": 64, "steps": 30},
        samples=[
            makers.sample_record(prompt=prompt, seconds=seconds, reference_seconds=reference, steps=steps(COMPUTED))
            for prompt, seconds, reference in zip(PROMPTS, times, reference_times, strict=True)
        ],
        timing=makers.timing(**summarize_timings(times), reference_median=1.2095, speedup=1.7219),
        quality=QualitySummary(
            mae=metric(1.25, 1.0, 2.0, 2.0),
            ssim=metric(0.98123, 0.97, 0.99, 0.97111),
            mae_similarity=metric(0.9951, 0.99, 0.997, 0.9921),
            psnr=metric(34.23, 31.0, 36.0, 31.04),
        ),
        reference=Reference(kind="run"),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the run, with a path that is longer than a line."""
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    (folder / "overview.png").touch()
    return folder


def printed(record: Record, folder: Path, print_it: Any = show, **options: Any) -> list[str]:
    file = io.StringIO()
    print_it(record, folder, Console(file=file, width=80, **options))
    lines = file.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines if str(folder) not in line)
    return lines


def row(lines: list[str], label: str) -> str:
    """A row's cells, with single spaces."""
    (line,) = [line for line in lines if line.startswith(label)]
    return " ".join(line.removeprefix(label).split())


def test_a_seed_that_may_have_been_drawn_stands_in_the_headline(base: Record) -> None:
    drawn = replace(base, config=base.config | {"seed": 2954016})
    for record, words in ((drawn, " · 30 steps · seed 2954016 · cpu"), (base, " · 30 steps · cpu")):
        file = io.StringIO()
        show(record, Path(FOLDER), Console(file=file, width=80))
        assert file.getvalue().strip().splitlines()[0].endswith(words)


def test_the_demo(base: Record, folder: Path) -> None:
    lines = printed(base, folder)
    assert "demo · 4 images of 64 × 64 · 30 steps · cpu" in lines
    assert row(lines, "    ") == "reference fbcache"
    assert row(lines, "time per image, median ± MAD") == "1.210 ± 0.005 s 0.702 ± 0.003 s"
    assert row(lines, "speedup") == "1.72×"
    assert row(lines, "steps computed / cached") == "30 / 0 15 / 15"
    assert row(lines, "SSIM, mean (worst)") == "0.9812 (0.9711)"
    assert row(lines, "MAE similarity, mean (worst)") == "0.9951 (0.9921)"
    assert row(lines, "PSNR in dB, mean (worst)") == "34.2 (31.0)"
    assert lines.count(STRIP) == 1
    assert f"  {folder}" in lines and f"  {folder / 'overview.png'}" in lines


@pytest.mark.parametrize(("prompts", "over"), [(4, "4 prompts"), (1, "4 seeds")])
def test_the_interval_stands_beside_the_mean_with_what_it_is_over(
    base: Record, folder: Path, prompts: int, over: str
) -> None:
    for number, (sample, ssim) in enumerate(zip(base.samples, [0.97, 0.98, 0.99, 0.985], strict=True)):
        sample.quality = Metrics(mae=1.0, mae_similarity=0.995, ssim=ssim, psnr=None)
        sample.prompt, sample.seed = base.samples[number % prompts].prompt, number
    lines = printed(base, folder)
    at = next(number for number, line in enumerate(lines) if line.startswith("SSIM, mean"))
    low, high = map(float, lines[at + 1].removeprefix(f"  95 % interval, {over}").split(" to "))
    assert 0.97 <= low < 0.98125 < high <= 0.99
    assert lines[at + 3].split() == f"95 % interval, {over} 0.9950 to 0.9950".split()


def test_no_cache(base: Record, folder: Path) -> None:
    base.config["cache"]["name"] = "none"
    for sample in base.samples:
        sample.steps, sample.reference_seconds = steps(set(range(1, 31))), None
    base.timing = replace(base.timing, reference_median=None, speedup=None)
    base.quality, base.reference = None, Reference(kind="self")
    lines = printed(base, folder)
    assert row(lines, "    ") == "no cache"
    assert row(lines, "time per image, median ± MAD") == "702 ± 3 ms"
    assert row(lines, "steps computed / cached") == "30 / 0"
    text = "\n".join(lines)
    assert "itself the reference" in text and "speedup" not in text and "SSIM" not in text and "□" not in text


def test_nothing_was_denoised(base: Record, folder: Path) -> None:
    for sample in base.samples:
        sample.source = "store"
    text = " ".join(" ".join(printed(base, folder)).split())
    assert "Nothing was denoised" in text and "rerun=true computes it again" in text
    base.samples[0].source = "computed"
    assert "3 of 4 images came from the store" in " ".join(printed(base, folder))


def test_never_hit(base: Record, folder: Path) -> None:
    base.warnings = ["cache=fbcache [x] never hit: " + "raise the threshold, " * 6]
    for sample in base.samples:
        sample.steps = steps(set(range(1, 31)))
    assert base.quality
    base.quality.psnr = MetricSummary(mean=None, ci95=None, worst=None)
    lines = printed(base, folder)
    assert row(lines, "steps computed / cached") == "30 / 0 30 / 0"
    assert row(lines, "PSNR in dB") == "identical"
    assert any(line.startswith("warning: cache=fbcache [x] never hit") for line in lines)


def test_images_that_differ_get_a_strip_each_with_their_prompt(base: Record, folder: Path) -> None:
    base.samples[1].steps = steps(COMPUTED | {10, 11})
    lines = printed(base, folder)
    assert row(lines, "steps computed / cached") == "30 / 0 15-17 / 13-15"
    assert f"{STRIP}  a red circle above a blue square" in lines
    assert any(line.endswith("a [bold]green[/] triangle") for line in lines)


def test_repeats_of_the_reference_and_the_name_of_the_gpu(base: Record, folder: Path) -> None:
    base.environment = makers.environment(device="cuda:0", device_name="NVIDIA H200")
    references: dict[str, Any] = {"reference_raw": [12.0, 12.5, 14.0], "reference_median": 12.5}
    base.timing = makers.timing(**summarize_timings([3.0, 3.25, 3.5]), **references)
    lines = printed(base, folder)
    assert "demo · 4 images of 64 × 64 · 30 steps · NVIDIA H200" in lines
    assert row(lines, "time per image, median ± MAD") == "12.50 ± 0.50 s 3.25 ± 0.25 s"


def test_one_image_has_no_spread(base: Record, folder: Path) -> None:
    base.samples = base.samples[:1]
    base.timing = replace(base.timing, **summarize_timings([0.7]))
    lines = printed(base, folder)
    assert row(lines, "time per image") == "1.210 s 0.700 s"
    assert row(lines, "SSIM") == "0.9812"


def test_the_share_of_flops_stands_under_the_speedup(base: Record, folder: Path) -> None:
    base.engaged.cache = makers.evidence(flop_share=0.536, denoiser_flop_share=0.551)
    assert row(printed(base, folder), "FLOPs of blocks / denoiser") == "100 % / 100 % 54 % / 55 %"
    base.engaged.cache = makers.evidence(flops_missing="no warm-up (measure.warmup=0)")
    lines = printed(base, folder)
    assert not any(line.startswith("FLOPs") for line in lines)
    assert "The share of FLOPs was not counted: no warm-up (measure.warmup=0)." in lines


def test_what_a_calibration_predicts_stands_under_what_was_computed(base: Record, folder: Path) -> None:
    predicted = PredictedSteps(calibration="demo (shipped)", computed_steps=[1, 2, 3, 30])
    base.cache = CacheSummary(hits=60, computed=60, computed_steps=[], hit_rate=0.5, predicted=predicted)
    lines = printed(base, folder)
    at = lines.index(STRIP)
    assert lines[at + 1] == "■■■" + "□" * 26 + "■  predicted by the calibration"


def test_the_plot_of_the_decisions_is_named(base: Record, folder: Path) -> None:
    assert "what the cache decided at each step" not in printed(base, folder)
    (folder / "trace.png").touch()
    lines = printed(base, folder)
    assert lines[lines.index("what the cache decided at each step") + 1] == f"  {folder / 'trace.png'}"


@pytest.mark.parametrize(
    ("status", "kind", "wanted"),
    [
        ("failed", "RunError", "error: stage denoise: first second (see "),
        ("failed", "ValueError", "error: stage denoise: ValueError: first second (see "),
        ("interrupted", "KeyboardInterrupt", "error: stage denoise: interrupted; run the same command again"),
    ],
)
def test_a_run_that_stopped_is_one_line(base: Record, folder: Path, status: Any, kind: str, wanted: str) -> None:
    base.status, base.error = status, Failure(stage="denoise", type=kind, message="first\n second")
    for print_it in (show, show_failure):
        lines = printed(base, folder, print_it)
        assert len(lines) == 1
        assert lines[0].startswith(wanted)
        assert str(folder / "record.json") in lines[0]


def test_a_log_that_is_not_utf8_and_a_prompt_with_control_characters(base: Record, folder: Path) -> None:
    base.samples[0].prompt = "bell \x07 and \x1b[31mred"
    base.samples[1].steps = steps(COMPUTED | {10, 11})
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii") as file:
        show(base, folder, Console(file=file, width=80))
        file.flush()
        text = raw.getvalue().decode("ascii")
    assert "4 images of 64 x 64, 30 steps" in text and "1.72x" in text and "0.702 +- 0.003 s" in text
    assert STRIP.replace("■", "#").replace("□", ".") + "  bell ? and ?[31mred" in text
    assert "\x1b" not in text and "\x07" not in text


def test_timings_of_different_runs_are_said(base: Record, folder: Path) -> None:
    assert base.timing
    base.timing.same_run = False
    lines = printed(base, folder)
    assert "timed in different runs" in " ".join(lines)
    assert row(lines, "speedup").startswith("~")
    for sample in base.samples:  # then the guess has another cause, which a warning says
        sample.timed_together = True
    lines = printed(base, folder)
    assert "timed in different runs" not in " ".join(lines)
    assert row(lines, "speedup").startswith("~")
    base.timing.same_run = True
    lines = printed(base, folder)
    assert "timed in different runs" not in " ".join(lines)
    assert not row(lines, "speedup").startswith("~")
