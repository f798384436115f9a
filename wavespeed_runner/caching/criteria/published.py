"""What others have published for single models: TeaCache's polynomials, MagCache's ratios, step masks.

The numbers lie in `tables/*.yaml`, each with its source. A value belongs to the model that it was measured on: a
repository that is not listed has none, and none is borrowed from a relative.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ...errors import ConfigError, did_you_mean
from .thresholds import polynomial

FOLDER = Path(__file__).parent / "tables"

WATCHED = ("modulated_input", "time_embedding", "time_projection", "hidden_states")
"""What a polynomial's change was measured on: the first block's timestep-modulated input, the embedding of the
timestep, its projection to the blocks' modulation, or the image tokens at the first block's input."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published polynomial of TeaCache."""

    name: str
    repos: tuple[str, ...]
    """Hub ids of the weights that it was fitted to; empty where the source names none."""
    variant: str | None = None
    """Null: what is used unless another is asked for."""
    coefficients: tuple[float, ...]
    """Highest degree first."""
    watched: str
    """One of `WATCHED`. On anything else the polynomial means nothing."""
    speedups: dict[float, float]
    """Threshold -> speedup, as published; not measured here."""
    source: str

    @property
    def range(self) -> tuple[float, float]:
        """Where it may be evaluated; ours, see `usable_range`."""
        return usable_range(self.coefficients)


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """Magnitude ratios of one model: MagCache."""

    repos: tuple[str, ...]
    ratios: tuple[float, ...]
    """One a step of the schedule that they were measured on."""
    source: str


@dataclass(frozen=True, kw_only=True)
class Mask:
    """Which steps are computed, for one number of steps."""

    name: str
    steps: int
    computed: list[int]
    """Counted from 1."""
    source: str


def row(repo: str, variant: str | None = None) -> Row | None:
    """The TeaCache polynomial of a hub repository; None: none is published for it."""
    return next((row for row in rows() if repo in row.repos and row.variant == variant), None)


@lru_cache
def rows() -> tuple[Row, ...]:
    """All of TeaCache's polynomials."""
    return tuple(
        Row(
            name=item["name"],
            repos=tuple(item["repos"]),
            variant=item.get("variant"),
            coefficients=tuple(float(c) for c in item["coefficients"]),
            watched=item["watched"],
            speedups={float(threshold): float(speedup) for threshold, speedup in item["speedups"].items()},
            source=item["source"],
        )
        for item in _read("teacache")
    )


def ratios(repo: str) -> Ratios | None:
    """The MagCache ratios of a hub repository; None: none are published for it."""
    for item in _read("magcache"):
        if repo in item["repos"]:
            values = tuple(float(ratio) for ratio in item["ratios"])
            return Ratios(repos=tuple(item["repos"]), ratios=values, source=item["source"])
    return None


def mask(name: str) -> Mask:
    """A published mask by name, or a `ConfigError` that names the near ones."""
    if name not in masks():
        raise ConfigError(
            f"cache.criterion.mask={name}: neither zeros and ones nor a published mask{did_you_mean(name, masks())}"
        )
    return masks()[name]


@lru_cache
def masks() -> dict[str, Mask]:
    """All published masks by name."""
    return {item["name"]: Mask(**item) for item in _read("masks")}


@lru_cache
def _read(name: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return items


@lru_cache
def usable_range(coefficients: tuple[float, ...]) -> tuple[float, float]:
    """Interval of relative changes in which a fitted polynomial can be believed.

    The ranges of the published fits are not published. This one is ours: the lowest part of [0, 1], to 0.0001, on
    which the polynomial is not negative, because the change from one step to the next is small; where it turns
    negative above, cut at its last peak, because beyond that a larger change would count for less.

    Raises:
        ValueError: it is negative everywhere on [0, 1].
    """
    grid = [i / 10000 for i in range(10001)]
    values = [polynomial(coefficients, x) for x in grid]
    low = next((i for i, value in enumerate(values) if value >= 0), None)
    if low is None:
        raise ValueError("a polynomial that is negative on all of [0, 1]")
    high = next((i for i in range(low, len(values)) if values[i] < 0), len(values)) - 1
    if high < len(values) - 1:
        while high > low and values[high - 1] >= values[high]:
            high -= 1
    return grid[low], grid[high]
