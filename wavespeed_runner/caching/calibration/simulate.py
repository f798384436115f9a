"""Which steps a strategy would compute, foretold from what an uncached run has shown.

The criterion, the window and the limits are the very ones that run; only the numbers are recorded ones. They are those
of the uncached trajectory, averaged over prompts: behind a skipped step the real ones differ by what the skipping
costs. Where one denoiser takes over from another, which a real run always computes, is not in a recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, nextafter
from typing import Any

from ...config.schema import CacheConfig
from ...errors import ConfigError
from ...registry import implementation_of
from ..interfaces import StepInfo
from ..window import CacheHits, is_reuse_allowed
from .data import Calibration

MOST_PIECES = 10_000
"""Changes of a threshold that are tried: a criterion that never comes to an end is no reason to hang."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One branch of one generation."""

    computed: list[int]
    """Steps, counted from 1."""
    steps: int
    levels: list[tuple[float, bool]]
    """What was compared with the threshold at each step that was asked about, and whether it was computed."""

    @property
    def bar(self) -> str:
        """Computed and reused steps, drawn as the console draws them."""
        return "".join("■" if step in self.computed else "□" for step in range(1, self.steps + 1))


def simulate(calibration: Calibration, cache: CacheConfig, branch: str | None = None) -> Prediction:
    """What a strategy does, by a calibration of the run that it is on.

    Args:
        branch: guidance branch; None: the first, which also decides for all where `cache.guidance_branches=first`.

    Raises:
        ConfigError: the strategy watches something that the calibration does not have.
    """
    assert cache.criterion, "the rule `cache-parts` has seen to it"
    criterion: Any = implementation_of("cache/criterion", cache.criterion)(cache.criterion)
    numbers = _Numbers(calibration, cache, criterion.watches, branch)
    hits = CacheHits()
    computed: list[int] = []
    levels: list[tuple[float, bool]] = []
    for step in range(calibration.steps):
        at = StepInfo(step=step, steps=calibration.steps, sigma=calibration.sigmas[step])
        seen = numbers(step, computed)
        skipped = False
        if step > 0 and seen is not None and is_reuse_allowed(cache, step, calibration.steps, hits):
            skipped = criterion.should_reuse(seen, at)
            if criterion.level is not None:
                levels.append((criterion.level, not skipped))
        else:
            criterion.level = None
        hits.count(skipped)
        if not skipped:
            criterion.record_computed(at)
            computed.append(step)
    return Prediction(computed=[step + 1 for step in computed], steps=calibration.steps, levels=levels)


class _Numbers:
    """What a criterion is given at a step, as the engine would measure it; None where there is nothing to compare."""

    def __init__(self, calibration: Calibration, cache: CacheConfig, watches: str, branch: str | None) -> None:
        self.watches = watches
        if watches in ("computed", "previous"):
            _refuse_other_signal(calibration, cache)
            traces: dict[str, Any] = calibration.signals[cache.signal.name]  # type: ignore[union-attr]
        else:
            traces = calibration.model
        if watches == "nothing":
            return
        if not traces:
            raise ConfigError(f"cache={cache.name}: the calibration has no trace of the model's input and output")
        self.trace: Any = traces[branch if branch in traces else next(iter(traces))]

    def __call__(self, step: int, computed: list[int]) -> tuple[float, ...] | None:
        """computed: the steps before this one that were, from 0."""
        if self.watches == "nothing":
            return ()
        if step == 0:
            return None
        if self.watches == "model":
            # No rate is known before the second step, and that is computed for want of one.
            rate = self.trace.rate[computed[-1] - 1][computed[-2]] if len(computed) > 1 else None
            found: tuple[Any, ...] = (self.trace.input[step - 1], rate)
        else:
            found = (self.trace[step - 1][computed[-1] if self.watches == "computed" else -1],)
        return None if None in found else found


def _refuse_other_signal(calibration: Calibration, cache: CacheConfig) -> None:
    """Signals were recorded with the values that they have by themselves."""
    signal = cache.signal
    if signal is None or signal.name not in calibration.signals:
        name, there = signal.name if signal else None, ", ".join(calibration.signals)
        raise ConfigError(f"cache/signal={name}: the calibration has no trace of it, only of {there}")
    if signal != type(signal)():
        raise ConfigError(f"cache.signal={signal}: the calibration has its trace with the default values only")


def simulate_thresholds(
    calibration: Calibration, cache: CacheConfig, branch: str | None = None
) -> Iterator[tuple[float, Prediction]]:
    """Every way in which a strategy can turn out, by its threshold: (from here on, what it does), from 0 upwards.

    Exact, without a grid: while a threshold rises, the first thing that changes is the comparison with the least level
    that was above it. A threshold that is too low by one unit in the last place is.
    """
    threshold = 0.0
    for _ in range(MOST_PIECES):
        found = simulate(calibration, replace_threshold(cache, threshold), branch)
        yield threshold, found
        above = [level for level, computed in found.levels if computed and level >= threshold]
        if not above:
            return
        threshold = nextafter(min(above), inf)


def replace_threshold(cache: CacheConfig, threshold: float) -> CacheConfig:
    """The same strategy with another threshold.

    Raises:
        ConfigError: its criterion has none.
    """
    if not hasattr(cache.criterion, "threshold"):
        name = cache.criterion.name if cache.criterion else None
        raise ConfigError(f"cache/criterion={name}: it has no threshold, its steps are known beforehand: dry_run=true")
    criterion: Any = replace(cache.criterion, threshold=threshold)  # type: ignore[type-var]
    return replace(cache, criterion=criterion)


def explain_idle_threshold(levels: Sequence[tuple[float, bool]], key: str) -> str:
    """What to tell about a threshold that did nothing, or everything; empty where it decided.

    Args:
        levels: what was compared with the threshold, and whether that step was computed: from the run's own trace.
        key: the threshold's, for the message.
    """
    if not levels:
        return ""
    if all(computed for _, computed in levels):
        lowest = min(level for level, _ in levels)
        return f"the cache never hit: {key} must be above {lowest:.4g}, the least that a step was compared with"
    if not any(computed for _, computed in levels):
        highest = max(level for level, _ in levels)
        return (
            f"the cache hit wherever it might, and {key} decided nothing: below {highest:.4g}, the most that a step "
            "was compared with, it would"
        )
    return ""


def collect_levels(samples: Sequence[dict[str, Any]]) -> list[tuple[float, bool]]:
    """(level, computed) of all steps, images and guidance branches in a record's `samples`."""
    found = []
    for step in (step for sample in samples for step in sample["steps"]):
        for one in (step.get("branches") or {"": step}).values():
            if one["level"] is not None:
                found.append((one["level"], one["computed"]))
    return found
