"""What a published number was published for: weights, sampler, size, window, and what its authors measured with it.

A source seldom says all of it. What it does not say is None here, and no run is held against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OWN = "own"
"""Of a sampler or a shift: the one that the model's diffusers repository holds."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The runs that a number comes from; None where the source does not say."""

    weights: str | None = None
    """A file that its script reads the denoiser from, where that is none of the row's repositories."""
    steps: int | None = None
    width: int | None = None
    """In pixels, as `height`."""
    height: int | None = None
    num_frames: int | None = None
    sampler: str | None = None
    """`own`, or a name in the table of samplers."""
    shift: float | str | None = None
    """Of the noise levels: a number, or `own`."""
    guidance_scale: float | None = None
    cfg_trunc_ratio: float | None = None
    """Share of the steps that are guided, of the models with that option (`Lumina2Config`)."""
    dtype: str | None = None
    """What the denoiser computed in: `bfloat16`."""
    signal: str | None = None
    """What is watched, in words, where it is none of our signals."""
    predictor: str | None = None
    """What stands in for the skipped blocks: the name of one of ours."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting that the source recommends or measured, in our keys, and what is to be expected of it."""

    threshold: float
    start: float = 0.0
    start_rounding: str = "up"
    end: float = 1.0
    include_end: bool = False
    warmup_steps: int = 0
    force_last_step: bool = False
    hits: int = -1
    """`max_consecutive_cache_hits`; -1: the source has no limit."""
    outside_window: bool = False
    """TeaCache: changes add up outside of the window, too."""
    clamp: str = ""
    """TeaCache: what becomes of the polynomial where it was not fitted; empty: nothing, as with `none`."""
    differs: str = ""
    """What its source does otherwise than any run here, in words."""
    always_computed: tuple[int, ...] = ()
    """MagCache: steps that are never skipped, see `MagnitudeRatio`."""
    speedup: float | None = None
    measured: str = ""
    """Where and how, in words: `A800, 14.26 to 5.05 s`."""
    source: str = ""
    """Where it is published; empty: at the source of its row."""

    @property
    def expectation(self) -> str:
        """`2.8x (A800, 14.26 to 5.05 s)`; empty if the source gives no figure."""
        speedup = f"{self.speedup:g}x" if self.speedup is not None else ""
        return f"{speedup} ({self.measured})" if speedup and self.measured else speedup or self.measured


def read_conditions(row: dict[str, Any]) -> Conditions:
    """The conditions in a row of a table."""
    return Conditions(**row.get("made_for") or {})


def read_settings(row: dict[str, Any]) -> tuple[Setting, ...]:
    """The settings in a row: those in its source's own window, then others."""
    window, speedups = row.get("window") or {}, row.get("speedups") or {}
    own = [Setting(threshold=threshold, speedup=speedup, **window) for threshold, speedup in speedups.items()]
    return (*own, *(_read_setting(item) for item in row.get("settings") or []))


def _read_setting(item: dict[str, Any]) -> Setting:
    return Setting(**item | {"always_computed": tuple(item.get("always_computed", ()))})
