"""What the console says beside the figures: guidance branches, strength, the name of the strategy."""

# ruff: noqa: RUF001
from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from tests.records import makers
from wavespeed_runner.metrics.timing import summarize_timings
from wavespeed_runner.records.record import Record, Reference
from wavespeed_runner.records.sample import BranchDecision, Step
from wavespeed_runner.report.console import show

COMPUTED = {1, 2, 3, 4, 5, 6, 12, 18, *range(24, 31)}


@pytest.fixture
def record() -> Record:
    """One image of the demo, with a cache."""
    steps = [
        Step(index=i, computed=i in COMPUTED, signal=0.1, level=None, seconds=0.02, stage="denoise")
        for i in range(1, 31)
    ]
    return makers.record(
        config={"model": {"name": "demo"}, "cache": {"name": "fbcache"}, "width": 64, "height": 64, "steps": 30},
        samples=[makers.sample_record(prompt="x", seconds=0.7, reference_seconds=1.2, steps=steps)],
        timing=makers.timing(**summarize_timings([0.7]), reference_median=1.2, speedup=1.71),
        reference=Reference(kind="run"),
    )


def printed(record: Record) -> list[str]:
    file = io.StringIO()
    show(record, Path("runs"), Console(file=file, width=80))
    return file.getvalue().splitlines()


def read_row(lines: list[str], label: str) -> str:
    """A row's cells, with single spaces."""
    (line,) = [line for line in lines if line.startswith(label)]
    return " ".join(line.removeprefix(label).split())


def test_guidance_branches_that_decide_for_themselves_are_counted(record: Record) -> None:
    """15 of 30 steps have a computed branch, 5 of them one alone: 25 of 60 calls, which is what the FLOPs follow."""
    assert not [line for line in printed(record) if "guidance branch" in line]
    alone = set(sorted(COMPUTED)[:5])
    for sample in record.samples:
        for step in sample.steps:
            on = {"positive": step.computed, "negative": step.computed and step.index not in alone}
            step.branches = {
                name: BranchDecision(computed=value, signal=None, level=None) for name, value in on.items()
            }
    lines = printed(record)
    assert read_row(lines, "steps computed / cached") == "30 / 0 15 / 15"
    assert read_row(lines, "calls in both guidance branches") == "60 / 0 25 / 35"


IMAGE = {"image": "image"}


@pytest.mark.parametrize(
    ("inputs", "run", "said"),
    [
        (IMAGE, 18, "30 steps, of which 18 run at strength 0.6"),
        ({"pipeline": "load"}, 30, "30 steps"),
        (IMAGE, 35, "30 steps at strength 0.6"),  # two calls a step
    ],
)
def test_steps_that_an_image_spares_are_no_surprise(
    record: Record, inputs: dict[str, str], run: int, said: str
) -> None:
    record.config |= {"strength": 0.6, "graph": {"stages": {"denoise": {"stage": "denoise", "inputs": inputs}}}}
    steps = record.samples[0].steps
    record.samples[0].steps = [msgspec.structs.replace(steps[i % len(steps)], stage="denoise") for i in range(run)]
    assert f"demo · 1 image of 64 × 64 · {said} · cpu" in printed(record)


def test_of_two_stages_the_one_that_starts_from_an_image_is_named(record: Record) -> None:
    second = {"stage": "denoise", "inputs": IMAGE, "options": {"strength": 0.1}}
    stages = {"denoise": {"stage": "denoise", "inputs": {}}, "denoise_large": second}
    record.config |= {"strength": 0.6, "graph": {"stages": stages}}
    steps = record.samples[0].steps
    record.samples[0].steps = [*steps, *(msgspec.structs.replace(step, stage="denoise_large") for step in steps[:3])]
    assert any("30 steps, of which 3 run at strength 0.1 (denoise_large) · cpu" in line for line in printed(record))


def test_a_strategy_is_called_as_it_was_chosen(record: Record) -> None:
    record.config["cache"] = {"name": "custom", "chosen_as": "steady"}
    assert "steady" in " ".join(printed(record)[2:4])
