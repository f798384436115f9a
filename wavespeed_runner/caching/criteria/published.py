"""Published numbers of single models: TeaCache polynomials, MagCache ratios, and step masks.

They are kept in `tables/*.yaml`, each with its source. A value belongs to the weights that it was measured on: a
repository that is not listed has none, and none is borrowed from a related model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ...errors import ConfigError, did_you_mean
from .thresholds import evaluate_polynomial

FOLDER = Path(__file__).parent / "tables"

WATCHED = ("modulated_input", "time_embedding", "time_projection", "hidden_states")
"""What the change that a polynomial takes was measured on: the first block's timestep-modulated input, the timestep
embedding, its projection to the blocks' modulation, or the image tokens at the first block's input."""


@dataclass(frozen=True, kw_only=True)
class TeaCachePolynomial:
    """One published TeaCache polynomial."""

    name: str
    repos: tuple[str, ...]
    """Hub ids of the weights that it was fitted to; empty if the source names none."""
    variant: str | None = None
    """Name of the variant, for models with several polynomials; null: the one used by default."""
    coefficients: tuple[float, ...]
    """Highest degree first."""
    watched: str
    """One of `WATCHED`. Applied to anything else the polynomial means nothing."""
    speedups: dict[float, float]
    """Threshold -> speedup, as published; not measured here."""
    source: str

    @property
    def range(self) -> tuple[float, float]:
        """Changes for which it may be evaluated; our estimate, see `find_usable_range`."""
        return find_usable_range(self.coefficients)


@dataclass(frozen=True, kw_only=True)
class MagCacheRatios:
    """Published MagCache ratios of one model."""

    repos: tuple[str, ...]
    ratios: tuple[float, ...]
    """One per step of the schedule that they were measured on."""
    source: str


@dataclass(frozen=True, kw_only=True)
class StepMask:
    """A published list of computed steps, for one number of steps."""

    name: str
    steps: int
    computed: list[int]
    """Counted from 1."""
    source: str


def find_polynomial(repo: str, variant: str | None = None) -> TeaCachePolynomial | None:
    """The TeaCache polynomial of a hub repository; None if none is published for it."""
    return next((row for row in load_polynomials() if repo in row.repos and row.variant == variant), None)


@lru_cache
def load_polynomials() -> tuple[TeaCachePolynomial, ...]:
    """All published TeaCache polynomials."""
    return tuple(
        TeaCachePolynomial(
            name=item["name"],
            repos=tuple(item["repos"]),
            variant=item.get("variant"),
            coefficients=tuple(float(c) for c in item["coefficients"]),
            watched=item["watched"],
            speedups={float(threshold): float(speedup) for threshold, speedup in item["speedups"].items()},
            source=item["source"],
        )
        for item in _read_table("teacache")
    )


def find_ratios(repo: str) -> MagCacheRatios | None:
    """The MagCache ratios of a hub repository; None if none are published for it."""
    for item in _read_table("magcache"):
        if repo in item["repos"]:
            ratios = tuple(float(ratio) for ratio in item["ratios"])
            return MagCacheRatios(repos=tuple(item["repos"]), ratios=ratios, source=item["source"])
    return None


def find_mask(name: str) -> StepMask:
    """A published mask by name.

    Raises:
        ConfigError: no mask has this name; the message names similar ones.
    """
    masks = load_masks()
    if name not in masks:
        raise ConfigError(
            f"cache.criterion.mask={name}: neither zeros and ones nor a published mask{did_you_mean(name, masks)}"
        )
    return masks[name]


@lru_cache
def load_masks() -> dict[str, StepMask]:
    """All published masks by name."""
    return {item["name"]: StepMask(**item) for item in _read_table("masks")}


@lru_cache
def _read_table(name: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return items


@lru_cache
def find_usable_range(coefficients: tuple[float, ...]) -> tuple[float, float]:
    """Interval of relative changes in which a fitted polynomial can be trusted.

    The publications do not state the range of their fits, so this is our own estimate: the lowest part of [0, 1], on a
    grid of 0.0001, on which the polynomial is not negative, because changes between steps are small. If it turns
    negative above that part, the range ends at its last peak: beyond it, a larger change would count for less.

    Raises:
        ValueError: it is negative everywhere on [0, 1].
    """
    grid = [i / 10000 for i in range(10001)]
    values = [evaluate_polynomial(coefficients, x) for x in grid]
    low = next((i for i, value in enumerate(values) if value >= 0), None)
    if low is None:
        raise ValueError("the polynomial is negative on all of [0, 1]")
    high = next((i for i in range(low, len(values)) if values[i] < 0), len(values)) - 1
    if high < len(values) - 1:
        while high > low and values[high - 1] >= values[high]:
            high -= 1
    return grid[low], grid[high]
