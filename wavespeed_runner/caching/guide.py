"""What people ask of a cache strategy first: what it is for, which key decides, and which values that key may have.

`GROUP=OPTION --help` and the table in docs/caching.md are made from this.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Guide:
    """One strategy. A preset is told by the strategy that it starts from."""

    key: str
    """The key that decides how much is computed, below `cache.`."""
    purpose: str
    values: tuple[int, int] | None = None
    """For a schedule: the ends of the range that the table shows. None: a threshold, whose range is replayed."""


GUIDE = {
    "fbcache": Guide(
        key="residual_diff_threshold", purpose="the first to try: any transformer or U-Net, no calibration"
    ),
    "dbcache": Guide(
        key="residual_diff_threshold",
        purpose="as fbcache, with warm-up, a limit of hits, Taylor extrapolation, and more blocks that always run",
    ),
    "teacache": Guide(
        key="rel_l1_thresh",
        purpose="transformers with published coefficients or a calibration; no block runs to decide",
    ),
    "deepcache": Guide(
        key="interval", values=(2, 5), purpose="U-Nets, at fixed steps; the outermost layers always run"
    ),
    "magcache": Guide(
        key="threshold", purpose="models with published ratios or a calibration; no block runs to decide"
    ),
    "easycache": Guide(key="threshold", purpose="watches what goes in and out of the denoiser; no calibration"),
    "seacache": Guide(key="threshold", purpose="watches the latents by frequency, and extrapolates; no calibration"),
    "dicache": Guide(key="threshold", purpose="as fbcache, but changes add up, and the residual is scaled by them"),
    "taylorseer": Guide(
        key="interval", values=(2, 5), purpose="fixed steps with extrapolation: every image costs the same"
    ),
    "planned": Guide(
        key="computed", values=(4, 14), purpose="a fixed number of steps, the best ones of a calibration of the model"
    ),
    "fitted": Guide(
        key="computed", values=(4, 8), purpose="as planned, with weights fitted to what comes out (fit computed=N)"
    ),
}
"""Strategy -> its guide. Those without one have no single key."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Which numbers a key may have; others are refused."""

    least: float
    most: float | None = None
    also: tuple[int | None, ...] = ()
    """Values outside that mean something of their own: -1 for no limit."""
    below_most: bool = False
    """Whether `most` itself is not allowed."""

    def __str__(self) -> str:
        """`0 to 1`, `1 or more, or -1`."""
        text = f"{self.least:g} or more" if self.most is None else f"{self.least:g} to {self.most:g}"
        text = text.replace(" to ", " to below ") if self.below_most else text
        return "".join([text, *(f", or {'null' if value is None else value}" for value in self.also)])


WINDOW_RANGES = {
    "start": Range(least=0, most=1, below_most=True),
    "end": Range(least=0, most=1),
    "max_consecutive_cache_hits": Range(least=1, also=(-1,)),
    "max_cache_hits": Range(least=1, also=(-1,)),
    "warmup_steps": Range(least=0),
    "tail_blocks": Range(least=0),
    "depth": Range(least=0, also=(None,)),
    "residual_diff_threshold": Range(least=0),
    "rel_l1_thresh": Range(least=0),
    "threshold": Range(least=0),
    "interval": Range(least=2),
    "computed": Range(least=2),
}
"""Key below `cache.` -> its range, with all other keys at their defaults."""
