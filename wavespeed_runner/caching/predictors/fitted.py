"""The skipped step's residual as a weighted sum of the last computed ones, the weights fitted to calibration runs.

All that a calibration leaves is the Gram matrix of the residuals r_0 .. r_(n-1) of n steps, G[i][j] = <r_i, r_j>, each
run divided by its own size, summed over runs: with it the least squares problem of every schedule can be solved, on the
host, without a tensor. As JSON it is the lower triangle, row i with i + 1 numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any

from ...config.schema import PartConfig
from ...errors import ConfigError, RunError, Unfit
from ...registry import register
from ..interfaces import StepInfo
from .reuse import History, Residual, combine

if TYPE_CHECKING:
    from torch import Tensor

Gram = Sequence[Sequence[float]]
RIDGE, ORDER = 0.01, 1


@dataclass(kw_only=True)
class Fitted(PartConfig):
    name: str = "fitted"
    history: int = 3
    """How many computed residuals are weighed."""
    ridge: float = RIDGE
    """Pull towards the Taylor forecast of the same steps, relative to the residuals' mean square. A fit alone is best
    for the mean of the calibration's prompts, and shrinks what is particular to another one, always in the same
    direction; Taylor does not, but follows noise."""
    order: int = ORDER
    """Of that forecast. 2 is better where residuals are smooth (the FLUX demo model), and far worse where they are not
    (the U-Net)."""
    gram: list[list[float]] | None = None
    """Lower triangle of the Gram matrix, from a calibration with the same model, sampler and steps."""

    def __post_init__(self) -> None:
        if self.history not in (2, 3):
            raise ConfigError(
                f"cache.predictor.history={self.history}: allowed: 2, 3; 1 is about cache/predictor=reuse"
            )
        if not 0 <= self.ridge <= 1:
            raise ConfigError(f"cache.predictor.ridge={self.ridge}: allowed: 0 to 1; {RIDGE:g} is the default")
        if self.order not in (1, 2) or self.order >= self.history:
            raise Unfit(
                f"cache.predictor.order={self.order} cache.predictor.history={self.history}: allowed: 1, and 2 with a "
                "history of 3"
            )
        for i, row in enumerate(self.gram or ()):
            if len(row) != i + 1 or not all(map(isfinite, row)) or row[i] < 0:
                raise ConfigError(
                    f"cache.predictor.gram: row {i} must have {i + 1} finite numbers, the last not negative; "
                    "take it from a calibration as it is"
                )


@register("cache/predictor", "fitted", Fitted)
class FittedPredictor:
    """Sum of w_k r_k over the last `history` computed residuals; the weights are those of `weights`."""

    def __init__(self, options: Fitted) -> None:
        if not options.gram:
            raise ConfigError(
                "cache.predictor.gram=null: cache/predictor=fitted needs a calibration of this model, sampler and "
                "steps; calibrate, or take cache/predictor=taylor, which needs none"
            )
        self.gram = tuple(map(tuple, options.gram))
        self.ridge, self.order = options.ridge, options.order
        self.history = History(options.history)

    def record_computed(self, at: StepInfo, residual: Residual, signal: Tensor | None) -> None:
        if at.steps != len(self.gram):
            raise RunError(
                f"cache.predictor.gram: calibrated over {len(self.gram)} steps, but this generation has {at.steps}; "
                f"calibrate again with {at.steps}, or take cache/predictor=taylor, which fits any number"
            )
        self.history.add(at.step, residual)

    def predict(self, at: StepInfo, signal: Tensor | None) -> Residual:
        steps = tuple(int(step) for step in self.history.positions)
        return combine(self.history.residuals, _known_weights(self.gram, steps, at.step, self.ridge, self.order))


def fit_weights(
    gram: Gram, history: tuple[int, ...], step: int, ridge: float = RIDGE, order: int = ORDER
) -> list[float]:
    """w_k of sum w_k r_k that fits the residual of `step` best, for the computed steps `history`, newest last.

    They minimise |r_step - sum w_k r_k|^2 + ridge mean|r_k|^2 |w - w_taylor|^2 (squares of norms, summed over the
    calibration runs; w_taylor: `forecast`). The pull is not towards 0, which would shrink the residual. Where the
    residuals depend on each other, the solution nearest to the forecast is taken.
    """
    import numpy as np

    found, _ = _fit(_full(gram), np.array([history]), np.array([step]), ridge, order)
    return [float(w) for w in found[0, :, 0]]


_known_weights = lru_cache(maxsize=4096)(fit_weights)
"""Branches, images and generations meet the same histories. The Gram matrix as tuples."""


def fit_error(gram: Gram, history: tuple[int, ...], step: int, ridge: float = RIDGE, order: int = ORDER) -> float:
    """What those weights leave: |r_step - sum w_k r_k|^2 / |r_step|^2. Infinite where only r_step is 0."""
    import numpy as np

    _, left = _fit(_full(gram), np.array([history]), np.array([step]), ridge, order)
    return float(left[0, 0])


def _full(gram: Gram) -> Any:
    """The symmetric matrix of a lower triangle, (n, n) float64."""
    import numpy as np

    full = np.zeros((len(gram), len(gram)))
    for i, row in enumerate(gram):
        full[i, : i + 1] = full[: i + 1, i] = row
    return full


def _fit(full: Any, histories: Any, steps: Any, ridge: float, order: int) -> tuple[Any, Any]:
    """Weights (count, length, steps) and relative squared errors (count, steps) of many histories (count, length)."""
    import numpy as np

    a = full[histories[:, :, None], histories[:, None, :]]
    b = full[histories[:, :, None], steps]
    size = full[steps, steps]
    pull = ridge * np.trace(a, axis1=1, axis2=2)[:, None, None] / a.shape[1] * np.eye(a.shape[1])
    # Solved for the distance from the forecast: what the ridge and the pseudo-inverse keep small is then that distance.
    near = lagrange_weights(histories, steps, order)
    found = near + np.linalg.pinv(a + pull, rcond=1e-12, hermitian=True) @ (b - a @ near)
    left = (size - (2 * found * b).sum(axis=1) + (found * (a @ found)).sum(axis=1)).clip(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return found, np.where(left > 0, left / size, 0.0)


def lagrange_weights(histories: Any, steps: Any, order: int) -> Any:
    """Weights (count, length, steps) with which the polynomial of this order through the last computed steps is
    followed to the skipped one (Lagrange); of fewer computed steps the highest order that they allow, of one reuse."""
    import numpy as np

    found = np.zeros((*histories.shape, len(steps)))
    through = histories[:, -(order + 1) :].astype(np.float64)
    first = histories.shape[1] - through.shape[1]
    found[:, first:] = 1.0
    for p in range(through.shape[1]):
        for q in range(through.shape[1]):
            if q != p:
                found[:, first + p] *= (steps[None] - through[:, q, None]) / (through[:, p] - through[:, q])[:, None]
    return found


def find_best_schedule(
    gram: Gram,
    computed: int,
    *,
    first: int,
    history: int = 3,
    ridge: float = RIDGE,
    order: int = ORDER,
    importance: Sequence[float] | None = None,
) -> list[int]:
    """Which `computed` of the n steps, the `first` ones and the last among them, leave the least error in the others.

    Minimises, over the gaps between computed steps, the sum of the squares of what their steps add up to, importance
    times the root of `error` each: in a gap the residual drifts one way, so that errors add up before they are squared.
    Exactly, by dynamic programming from step to step: the state is the last `history` computed steps and how many there
    are so far. Takes O(n^(history + 1) computed) sums and O(n^history) small fits: 50 steps with a history of 3 take
    less than two seconds, which a test holds it to.

    Args:
        importance: a weight a step, (n,); None: all the same.

    Returns:
        The computed steps, ascending, counted from 0.

    Raises:
        ConfigError: there is no such schedule.
    """
    import numpy as np

    full, n = _full(gram), len(gram)
    if not 1 <= first < computed <= n or history < 2:
        raise Unfit(
            f"computed={computed}, first={first}, history={history}: for {n} steps allowed: "
            f"1 <= first < computed <= {n} (the last step is always computed) and history 2 or more"
        )
    if importance is None:
        importance = [1.0] * n
    start = tuple(range(first))[-history:]
    groups: list[dict[tuple[int, ...], list[tuple[int, ...]]]] = [{} for _ in range(n)]
    """By last step: tail (what of a history outlives the next computed step) -> the histories that end in it."""
    groups[first - 1][_tail(start, history)] = [start]
    reached: dict[tuple[int, ...], tuple[Any, Any]] = {}
    """Tail -> least cost (computed so far, next computed step) and the place of its history in the group."""

    def spent(state: tuple[int, ...]) -> Any:
        """Least cost up to a history, by how many steps are computed beyond the `first` ones."""
        costs = np.full(computed - first + 1, np.inf)
        if state == start:
            costs[0] = 0.0
        else:
            costs[1:] = reached[state[:-1]][0][:-1, state[-1] - state[-2] - 1]
        return costs

    for last in range(first - 1, n - 1):
        skipped = np.arange(last + 1, n - 1)
        for tail, states in groups[last].items():
            _, left = _fit(full, np.array(states), skipped, ridge, order)
            until = np.zeros((len(states), n - 1 - last))
            # Finite, because an importance may be 0.
            until[:, 1:] = (left.clip(max=1e12) ** 0.5 * np.asarray(importance)[skipped]).cumsum(axis=1) ** 2
            total = np.stack([spent(state) for state in states])[:, :, None] + until[:, None, :]
            reached[tail] = total.min(axis=0), total.argmin(axis=0)
            for after in range(last + 1, n - 1):
                groups[after].setdefault(_tail((*tail, after), history), []).append((*tail, after))

    count, step = computed - first - 1, n - 1
    tail = min(reached, key=lambda t: reached[t][0][count, step - t[-1] - 1])
    path = [step]
    while True:
        state = groups[tail[-1]][tail][int(reached[tail][1][count, step - tail[-1] - 1])]
        path.append(state[-1])
        if state == start:
            return [*range(first - 1), *reversed(path)]
        tail, step, count = state[:-1], state[-1], count - 1


def _tail(state: tuple[int, ...], history: int) -> tuple[int, ...]:
    return state[-(history - 1) :]
