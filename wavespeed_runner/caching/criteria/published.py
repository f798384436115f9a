"""Published numbers of single models: TeaCache polynomials, MagCache ratios, step masks, and thresholds.

They are kept in `tables/*.yaml`, each with its source and with what it was published for (`conditions.py`). A value
belongs to the weights that it was measured on: a repository that is not listed has none, and none is borrowed from a
related model. Steps, size and sampler may differ; `rules/cache_published.py` then says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ...errors import ConfigError, did_you_mean
from .conditions import Conditions, Setting, read_conditions, read_settings
from .masks import LEAST_STRETCHED, Runs, choose_by_runs
from .thresholds import evaluate_polynomial

FOLDER = Path(__file__).parent / "tables"

WATCHED = ("modulated_input", "time_embedding", "time_projection", "hidden_states")
"""What the change that a polynomial takes was measured on: the first block's timestep-modulated input, the timestep
embedding, its projection to the blocks' modulation, or the image tokens at the first block's input."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What every published row has."""

    name: str
    repos: tuple[str, ...]
    """Hub ids of the weights that it was made for; empty if the source names none that we know, or for any."""
    made_for: Conditions = field(default_factory=Conditions)
    settings: tuple[Setting, ...] = ()
    """Recommended or measured by its authors, or by those of a ported version."""
    source: str


@dataclass(frozen=True, kw_only=True)
class TeaCachePolynomial(Row):
    """One published TeaCache polynomial."""

    variant: str | None = None
    """Name of the variant, for models with several polynomials; null: the one used by default."""
    coefficients: tuple[float, ...]
    """Highest degree first."""
    watched: str
    """One of `WATCHED`. Applied to anything else the polynomial means nothing."""
    speedups: dict[float, float]
    """Threshold -> speedup, as published by the source; not measured here."""

    @property
    def range(self) -> tuple[float, float]:
        """Changes for which it may be evaluated; our estimate, see `find_usable_range`."""
        return find_usable_range(self.coefficients)


@dataclass(frozen=True, kw_only=True)
class MagCacheRatios(Row):
    """Published MagCache ratios of one model."""

    ratios: tuple[float, ...]
    """One per step of the schedule that they were measured on."""
    ratios_uncond: tuple[float, ...] | None = None
    """Of the unconditional guidance branch; None: the same, or there is none."""


@dataclass(frozen=True, kw_only=True)
class Thresholds(Row):
    """Thresholds that were published for one model, of a strategy that needs no other numbers."""

    strategy: str


@dataclass(frozen=True, kw_only=True)
class StepMask(Row):
    """A published list of computed steps, for one number of steps or, by a formula, for several."""

    steps: int | None = None
    """The only number of steps that it is for; None: see `runs`."""
    computed: tuple[int, ...] = ()
    """Counted from 1."""
    runs: dict[int, Runs] = field(default_factory=dict)
    measured: str = ""

    def choose(self, steps: int) -> list[int] | None:
        """The computed steps of so many, counted from 1; None: it is not for so many."""
        if self.runs:
            return choose_by_runs(self.runs, steps)
        return list(self.computed) if steps == self.steps else None

    @property
    def fits(self) -> str:
        """For which numbers of steps: `50`, or `4, 6, 8 or more`."""
        if self.steps is not None:
            return str(self.steps)
        return ", ".join(str(n) for n in self.runs if n < LEAST_STRETCHED) + f", {LEAST_STRETCHED} or more"


def find_polynomial(repo: str, variant: str | None = None) -> TeaCachePolynomial | None:
    """The TeaCache polynomial of a hub repository; None if none is published for it."""
    return next((row for row in load_polynomials() if repo in row.repos and row.variant == variant), None)


@lru_cache
def load_polynomials() -> tuple[TeaCachePolynomial, ...]:
    """All published TeaCache polynomials."""
    return tuple(
        TeaCachePolynomial(
            **_read_row(item),
            variant=item.get("variant"),
            coefficients=tuple(float(c) for c in item["coefficients"]),
            watched=item["watched"],
            speedups={float(threshold): float(speedup) for threshold, speedup in item["speedups"].items()},
        )
        for item in _read_table("teacache")
    )


def find_ratios(repo: str, steps: int | None = None, pixels: int | None = None) -> MagCacheRatios | None:
    """The MagCache ratios of a hub repository; None if none are published for it.

    Of several rows the one whose steps are nearest, and among those the one whose size is.

    Args:
        repo: hub id.
        steps: calls of the denoiser; None: the first row.
        pixels: width times height of the run.
    """

    def compare(row: MagCacheRatios) -> tuple[int, int]:
        made_for = row.made_for
        size = (made_for.width or 0) * (made_for.height or 0)
        return abs(len(row.ratios) - steps) if steps else 0, abs(size - pixels) if size and pixels else 0

    return min((row for row in load_ratios() if repo in row.repos), key=compare, default=None)


@lru_cache
def load_ratios() -> tuple[MagCacheRatios, ...]:
    """All published MagCache ratios."""
    return tuple(
        MagCacheRatios(
            **_read_row(item),
            ratios=tuple(item["ratios"]),
            ratios_uncond=tuple(item["ratios_uncond"]) if "ratios_uncond" in item else None,
        )
        for item in _read_table("magcache")
    )


@lru_cache
def load_thresholds() -> tuple[Thresholds, ...]:
    """Thresholds of strategies that need no other numbers."""
    return tuple(Thresholds(**_read_row(item), strategy=item["strategy"]) for item in _read_table("thresholds"))


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
    keys = ("steps", "runs", "measured")
    return {
        item["name"]: StepMask(
            **_read_row(item),
            computed=tuple(item.get("computed", ())),
            **{key: item[key] for key in keys if key in item},
        )
        for item in _read_table("masks")
    }


def _read_row(item: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Row`."""
    return {
        "name": item["name"],
        "repos": tuple(item.get("repos") or ()),
        "made_for": read_conditions(item),
        "settings": read_settings(item),
        "source": item["source"],
    }


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
