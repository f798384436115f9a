"""Raw results to figures: one `Point` a setting, and what is read off them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from .__main__ import RESULTS

TAIL = 10
"""Percent of the prompts that are worse than the tail figure."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A setting's figures over all prompts."""

    name: str
    group: str
    by: str
    share: float
    """Mean computed share."""
    time: float
    """Median over rounds of the CPU time, as a share of the uncached one's in the same round."""
    seconds: tuple[float, float, float]
    """CPU seconds an image: median, least and greatest of the rounds."""
    quality: dict[str, float]
    """`mean`, `median`, `tail` of the SSIM, or of the error where images show nothing."""
    error: float
    """Mean relative error of the latents."""
    latents: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Results:
    """One model's."""

    raw: dict[str, Any]
    points: list[Point]
    cannot: dict[str, str]
    """Name -> reason."""
    metric: str
    """`ssim`, where more is better, or `error`, where less is."""
    costs: dict[str, dict[str, float]]
    """Rule -> microseconds outside the blocks of a `computed` and of a `skipped` call, medians; see `cost.py`."""

    def groups(self) -> list[str]:
        """As they come; ours last, so that they are drawn on top."""
        names = list(dict.fromkeys(point.group for point in self.points if point.by != "reference"))
        ours = {point.group for point in self.points if point.by == "ours"}
        return sorted(names, key=lambda name: name in ours)

    def of(self, group: str) -> list[Point]:
        return [point for point in self.points if point.group == group]


def load(model: str, folder: Path = RESULTS) -> Results:
    """Of results/peers_MODEL.json."""
    raw = json.loads((folder / f"peers_{model}.json").read_text(encoding="utf-8"))
    able = [setting for setting in raw["settings"] if "cannot" not in setting]
    uncached = next(setting for setting in able if setting["by"] == "reference")
    metric = "ssim" if uncached["ssim"] else "error"
    return Results(
        raw=raw,
        points=[_point(setting, _rounds(uncached, raw["rounds"]), raw["rounds"], metric) for setting in able],
        cannot={setting["name"]: setting["cannot"] for setting in raw["settings"] if "cannot" in setting},
        metric=metric,
        costs=_costs(folder / f"peers_cost_{model}.json"),
    )


def _costs(path: Path) -> dict[str, dict[str, float]]:
    """Empty where `benchmarks.peers.cost` has not run."""
    if not path.exists():
        return {}
    rules = json.loads(path.read_text(encoding="utf-8"))["seconds"]
    return {name: {kind: 1e6 * median(values) for kind, values in kinds.items()} for name, kinds in rules.items()}


def _rounds(setting: dict[str, Any], lengths: list[int]) -> list[float]:
    """CPU seconds an image in each round."""
    ends = np.cumsum(lengths)[:-1]
    return [float(part.mean()) for part in np.split(np.asarray(setting["cpu_seconds"]), ends)]


def _point(setting: dict[str, Any], uncached: list[float], lengths: list[int], metric: str) -> Point:
    values, rounds = setting[metric], _rounds(setting, lengths)
    tail = np.percentile(values, TAIL if metric == "ssim" else 100 - TAIL)
    return Point(
        name=setting["name"],
        group=setting["group"],
        by=setting["by"],
        share=mean(setting["share"]),
        time=median(own / theirs for own, theirs in zip(rounds, uncached, strict=True)),
        seconds=(median(rounds), min(rounds), max(rounds)),
        quality={"mean": mean(values), "median": median(values), "tail": float(tail)},
        error=mean(setting["error"]),
        latents=tuple(setting["latents"]),
    )


def front(pairs: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The Pareto front of (cost, loss), both better when less: no other pair is as good in both. Sorted by cost."""
    found: list[tuple[float, float]] = []
    for cost, loss in sorted(pairs):
        if not found or loss < found[-1][1]:
            found.append((cost, loss))
    return found


def lowest_share(points: list[Point], level: float) -> float | None:
    """The lowest computed share at which the mean SSIM is at least `level`; None where it never is."""
    return min((point.share for point in points if point.quality["mean"] >= level), default=None)


def lowest_error(points: list[Point], share: float) -> Point | None:
    """The point of least error among those that compute no more than `share`."""
    # Shares are sums of floats: a mask's 15 / 28 must not lose against itself.
    return min((point for point in points if point.share <= share + 1e-9), key=lambda point: point.error, default=None)
