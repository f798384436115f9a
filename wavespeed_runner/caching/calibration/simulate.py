"""Predicts which steps a strategy would compute, from a calibration and without running the model.

Criterion, window and limits are the same code that runs; only the measured numbers come from the recording. They are
those of the uncached trajectory, averaged over prompts: after a cached step the real numbers differ by the error that
caching makes. A switch from one denoiser to another, which a real run always computes, is not in a recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, nextafter
from typing import Any

from ...config.schema import CacheConfig, Window
from ...errors import ConfigError
from ...registry import find_implementation
from ..interfaces import Criterion, StepInfo
from ..window import CacheHits, ask
from .data import Calibration, ModelTrace

MAX_THRESHOLDS = 10_000
"""Upper limit on simulated thresholds, in case a criterion never stops changing its result."""

RecordedTrace = list[list[float | None]] | ModelTrace
"""Of one guidance branch: the changes of a signal, or of the model."""

Level = tuple[float, bool]
"""What was compared with the threshold at one step, and whether the step was computed."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The predicted decisions of one guidance branch of one generation."""

    computed: list[int]
    """Steps, counted from 1."""
    steps: int
    levels: list[Level]
    """One for each step at which the criterion was asked."""

    @property
    def bar(self) -> str:
        """Computed (■) and cached (□) steps, as the console draws them."""
        return "".join("■" if step in self.computed else "□" for step in range(1, self.steps + 1))


def simulate(calibration: Calibration, cache: CacheConfig, branch: str | None = None) -> Prediction:
    """Predicts which steps a strategy computes, from a calibration of the same run.

    Args:
        calibration: of the model, sampler and steps that the strategy is used with.
        cache: the strategy.
        branch: guidance branch; None: the first one, which decides for all with `cache.guidance_branches=first`.

    Raises:
        ConfigError: the strategy watches something that the calibration did not record.
    """
    assert cache.criterion, "ensured by the rule `cache-parts`"
    if cache.window is not Window.steps:
        raise ConfigError(
            f"cache.window={cache.window.value}: which steps are inside is known only once a run has set its schedule, "
            "so nothing can be predicted; cache.window=steps can be"
        )
    criterion: Criterion = find_implementation("cache/criterion", cache.criterion)(cache.criterion)
    trace = _select_trace(calibration, cache, criterion.watches, branch)
    hits = CacheHits()
    computed: list[int] = []
    levels: list[Level] = []
    for step in range(calibration.steps):
        at = StepInfo(step=step, steps=calibration.steps, sigma=calibration.sigmas[step])
        numbers = _read_numbers(trace, criterion.watches, step, computed)
        skipped = ask(criterion, cache, numbers if step > 0 else None, at, hits)
        if criterion.level is not None:
            levels.append((criterion.level, not skipped))
        hits.count(skipped)
        if not skipped:
            criterion.record_computed(at)
            computed.append(step)
    return Prediction(computed=[step + 1 for step in computed], steps=calibration.steps, levels=levels)


def _select_trace(
    calibration: Calibration, cache: CacheConfig, watches: str, branch: str | None
) -> RecordedTrace | None:
    """The recorded numbers that a criterion needs: a signal's triangle or a `ModelTrace`; None for schedules."""
    if watches == "nothing":
        return None
    traces: Mapping[str, RecordedTrace] = calibration.model
    if watches in ("computed", "previous"):
        traces = calibration.signals[_check_signal(calibration, cache)]
    if not traces:
        raise ConfigError(f"cache={cache.title}: the calibration has no trace of the model's input and output")
    return traces[branch if branch is not None and branch in traces else next(iter(traces))]


def _check_signal(calibration: Calibration, cache: CacheConfig) -> str:
    """The name of the strategy's signal. Signals are recorded with their default values only."""
    signal = cache.signal
    if signal is None or signal.name not in calibration.signals:
        name, available = signal.name if signal else None, ", ".join(calibration.signals)
        raise ConfigError(f"cache/signal={name}: the calibration has no trace of it, only of {available}")
    if signal != type(signal)():
        raise ConfigError(f"cache.signal={signal}: the calibration has its trace with the default values only")
    return signal.name


def _read_numbers(
    trace: RecordedTrace | None, watches: str, step: int, computed: Sequence[int]
) -> tuple[float, ...] | None:
    """What a criterion is given at a step, as the engine would measure it; None if there is nothing to compare.

    Args:
        trace: from `_select_trace`.
        watches: see `Criterion.watches`.
        step: counted from 0.
        computed: the steps before it that were computed, counted from 0.
    """
    if trace is None:
        return ()
    if step == 0:
        return None
    numbers: tuple[float | None, ...]
    if isinstance(trace, ModelTrace):
        # Before the second computed step no rate is known.
        rate = trace.rate[computed[-1] - 1][computed[-2]] if len(computed) > 1 else None
        numbers = (trace.input[step - 1], rate)
    else:
        numbers = (trace[step - 1][computed[-1] if watches == "computed" else -1],)
    known = tuple(number for number in numbers if number is not None)
    return known if len(known) == len(numbers) else None


def simulate_thresholds(
    calibration: Calibration, cache: CacheConfig, branch: str | None = None
) -> Iterator[tuple[float, Prediction]]:
    """Every result that a strategy can have, by its threshold: (lowest threshold, prediction), from 0 upwards.

    Exact, without a grid: as the threshold rises, the first decision to change is that of the smallest level that was
    not reused. Each piece starts one ulp above that level.
    """
    if getattr(cache.criterion, "outside_window", False):
        raise ConfigError(
            "cache.criterion.outside_window=true: what adds up outside of the window depends on the threshold, too, so "
            "thresholds cannot be listed; cache.criterion.outside_window=false, or a run"
        )
    threshold = 0.0
    for _ in range(MAX_THRESHOLDS):
        prediction = simulate(calibration, replace_threshold(cache, threshold), branch)
        yield threshold, prediction
        above = [level for level, computed in prediction.levels if computed and level >= threshold]
        if not above:
            return
        threshold = nextafter(min(above), inf)


def replace_threshold(cache: CacheConfig, threshold: float) -> CacheConfig:
    """The same strategy with another threshold.

    Raises:
        ConfigError: its criterion has no threshold.
    """
    if not hasattr(cache.criterion, "threshold"):
        name = cache.criterion.name if cache.criterion else None
        raise ConfigError(
            f"cache/criterion={name}: it has no threshold, because its steps are fixed in advance; "
            "dry_run=true shows them"
        )
    criterion: Any = replace(cache.criterion, threshold=threshold)  # type: ignore[type-var]
    return replace(cache, criterion=criterion)


def explain_idle_threshold(levels: Sequence[Level], key: str) -> str:
    """The warning about a threshold that reused nothing, or everything; empty if it made a difference.

    Args:
        levels: from the run's own trace.
        key: the threshold's key, for the message.
    """
    if not levels:
        return ""
    if all(computed for _, computed in levels):
        lowest = min(level for level, _ in levels)
        return f"the cache never hit: {key} must be above {lowest:.4g}, the lowest value it was compared with"
    if not any(computed for _, computed in levels):
        highest = max(level for level, _ in levels)
        if highest <= 0:  # a polynomial that is not clamped is negative where it was not fitted
            return (
                f"every step that was allowed to be reused was reused, and no {key} changes that: the highest value it "
                f"was compared with is {highest:.4g}"
            )
        return f"every step that was allowed to be reused was reused; lower {key} below {highest:.4g} to change that"
    return ""


def collect_levels(samples: Sequence[dict[str, Any]]) -> list[Level]:
    """The levels of all steps, images and guidance branches in a record's `samples`."""
    levels = []
    for step in (step for sample in samples for step in sample["steps"]):
        for decision in (step.get("branches") or {"": step}).values():
            if decision["level"] is not None:
                levels.append((decision["level"], decision["computed"]))
    return levels
