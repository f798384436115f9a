"""A sweep of three small jobs, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wavespeed_runner.models import pipeline_call as call

LONG = 120
"""Seconds; far more than any of this takes."""


def sweep(home: Path, *overrides: str) -> list[str]:
    """Three jobs of one image each, without a reference; what is given later replaces what is here."""
    given = [
        "model.init=tiny", "device=cpu", "width=32", "height=32", "steps=4", "measure=none", "prompt='a red circle'",
        "seed=1,2,3", f"outputs={home / 'outputs'}",
    ]  # fmt: skip
    by_key = {override.partition("=")[0]: override for override in (*given, *overrides)}
    return ["-m", *by_key.values()]


def folders(home: Path) -> list[Path]:
    return sorted(path.parent for path in home.glob("outputs/sweeps/*/*/sweep.json"))


def records(home: Path) -> dict[str, dict[str, Any]]:
    """Of the newest sweep, by job."""
    return {path.parent.name: json.loads(path.read_text()) for path in folders(home)[-1].glob("*/record.json")}


def statuses(home: Path) -> dict[str, str]:
    return {name: record["status"] for name, record in sorted(records(home).items())}


def failing(*numbers: int, error: BaseException | None = None, nan: bool = False) -> Callable[..., Any]:
    """The usual denoising, but for these calls of it, counted from 1."""
    count = iter(range(1, 1000))

    def denoise(*args: Any) -> Any:
        wrong = next(count) in numbers
        if wrong and error is not None:
            raise error
        made = call.denoise(*args)
        return {"latents": made["latents"] * float("nan")} if wrong and nan else made

    return denoise
