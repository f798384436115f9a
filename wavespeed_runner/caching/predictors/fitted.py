"""Fitted predictor: the skipped residual as a weighted sum of the last computed ones, weights from calibration runs.

All that it needs from a calibration is the Gram matrix of the residuals r_0 .. r_(n-1) of n steps,
G[i][j] = <r_i, r_j>, each run divided by its own size, summed over the runs. With it the least squares problem of any
schedule can be solved on the host, without tensors. In JSON and YAML it is the lower triangle: row i has i + 1 numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING

from ...config.schema import PartConfig
from ...errors import ConfigError, RunError, Unfit
from ...registry import register
from ..interfaces import StepInfo
from .history import History, Residual, combine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    Floats = NDArray[np.float64]
    Steps = NDArray[np.int64]

Gram = Sequence[Sequence[float]]
RIDGE, ORDER = 0.01, 1
SMALLEST, LARGEST = 1e-40, 1e40
"""Numbers of a Gram matrix of which the products and quotients of a fit are finite."""


@dataclass(kw_only=True)
class Fitted(PartConfig):
    """Options of `cache/predictor=fitted`."""

    name: str = "fitted"
    history: int = 3
    """How many computed residuals are combined."""
    ridge: float = RIDGE
    """Pull towards Taylor extrapolation from the same steps, relative to the residuals' mean square. A fit alone is
    best for the mean of the calibration's prompts, but always shrinks what is particular to another prompt. Taylor
    extrapolation does not, but it follows noise."""
    order: int = ORDER
    """Order of that extrapolation. 2 is better where residuals are smooth (the FLUX demo model), and much worse where
    they are not (the U-Net)."""
    gram: list[list[float]] | None = None
    """Lower triangle of the Gram matrix, from a calibration with the same model, sampler and steps."""

    def __post_init__(self) -> None:
        """Refuses values that are out of range or do not fit together."""
        if self.history not in (2, 3):
            raise ConfigError(
                f"cache.predictor.history={self.history}: allowed: 2, 3; 1 is nearly cache/predictor=reuse"
            )
        if not 0 <= self.ridge <= 1:
            raise ConfigError(f"cache.predictor.ridge={self.ridge}: allowed: 0 to 1; {RIDGE:g} is the default")
        if self.order not in (1, 2) or self.order >= self.history:
            raise Unfit(
                f"cache.predictor.order={self.order} cache.predictor.history={self.history}: allowed: 1, and 2 with a "
                "history of 3"
            )
        if problem := find_problem(self.gram or ()):
            raise ConfigError(f"cache.predictor.gram: {problem}; copy it unchanged from a calibration")


def find_problem(gram: Gram) -> str:
    """Why these rows are no lower triangle of a Gram matrix that can be solved with; empty if they are."""
    for i, row in enumerate(gram):
        if len(row) != i + 1 or not all(map(isfinite, row)) or row[i] < 0:
            return f"row {i} must have {i + 1} finite numbers, the last, a square, not negative"
        if not all(number == 0 or SMALLEST <= abs(number) <= LARGEST for number in row):
            return f"row {i}: numbers of {SMALLEST:g} to {LARGEST:g} are needed, or 0; a calibration's are about 1"
    return ""


@register("cache/predictor", "fitted", Fitted)
class FittedPredictor:
    """Sum of w_k r_k over the last `history` computed residuals, with the weights of `fit_weights`."""

    def __init__(self, options: Fitted) -> None:
        """Raises a ConfigError if the Gram matrix is still missing."""
        if not options.gram:
            raise ConfigError(
                "cache.predictor.gram=null: cache/predictor=fitted needs a calibration of this model, sampler and "
                "steps; calibrate, or use cache/predictor=taylor, which needs none"
            )
        self.gram = tuple(map(tuple, options.gram))
        self.ridge, self.order = options.ridge, options.order
        self.history = History(options.history)

    def record_computed(self, at: StepInfo, residual: Residual, signal: Tensor | None) -> None:
        """Stores the residual."""
        if at.steps != len(self.gram):
            raise RunError(
                f"cache.predictor.gram: calibrated over {len(self.gram)} steps, but this generation has {at.steps}; "
                f"calibrate again with {at.steps} steps, or use cache/predictor=taylor, which works with any number"
            )
        self.history.add(at.step, residual)

    def predict(self, at: StepInfo, signal: Tensor | None) -> Residual:
        """The fitted sum for this step."""
        steps = tuple(int(step) for step in self.history.positions)
        weights = _fit_weights_cached(self.gram, steps, at.step, self.ridge, self.order)
        return combine(self.history.residuals, weights)


def fit_weights(
    gram: Gram, history: tuple[int, ...], step: int, ridge: float = RIDGE, order: int = ORDER
) -> list[float]:
    """The weights w_k whose sum of w_k r_k fits the residual of `step` best.

    They minimise |r_step - sum w_k r_k|^2 + ridge mean|r_k|^2 |w - w_taylor|^2 (squares of norms, summed over the
    calibration runs; w_taylor: `lagrange_weights`). The pull is not towards 0, which would shrink the residual. If the
    residuals are linearly dependent, it is the solution nearest to the extrapolation.

    Args:
        gram: lower triangle of the Gram matrix.
        history: the computed steps, counted from 0, newest last.
        step: the skipped step.
        ridge: see `Fitted`.
        order: see `Fitted`.
    """
    import numpy as np

    weights, _ = solve_weights(to_symmetric(gram), np.array([history]), np.array([step]), ridge, order)
    return [float(w) for w in weights[0, :, 0]]


# Guidance branches, images and generations have the same histories. Tuples, because arguments must be hashable.
_fit_weights_cached = lru_cache(maxsize=4096)(fit_weights)


def fit_error(gram: Gram, history: tuple[int, ...], step: int, ridge: float = RIDGE, order: int = ORDER) -> float:
    """The relative error of the fit, |r_step - sum w_k r_k|^2 / |r_step|^2; infinite if only r_step is 0."""
    import numpy as np

    _, errors = solve_weights(to_symmetric(gram), np.array([history]), np.array([step]), ridge, order)
    return float(errors[0, 0])


def to_symmetric(gram: Gram) -> Floats:
    """The symmetric matrix of a lower triangle, (n, n) float64."""
    import numpy as np

    full = np.zeros((len(gram), len(gram)))
    for i, row in enumerate(gram):
        full[i, : i + 1] = full[: i + 1, i] = row
    return full


def solve_weights(full: Floats, histories: Steps, steps: Steps, ridge: float, order: int) -> tuple[Floats, Floats]:
    """Fits many histories and steps at once; see `fit_weights` and `fit_error`.

    Args:
        full: the whole Gram matrix, (n, n).
        histories: computed steps, (count, length), newest last.
        steps: skipped steps, (steps,).
        ridge: see `Fitted`.
        order: see `Fitted`.

    Returns:
        Weights (count, length, steps) and relative squared errors (count, steps).
    """
    import numpy as np

    a = full[histories[:, :, None], histories[:, None, :]]
    b = full[histories[:, :, None], steps]
    size = full[steps, steps]
    pull = ridge * np.trace(a, axis1=1, axis2=2)[:, None, None] / a.shape[1] * np.eye(a.shape[1])
    # Solved for the distance from the extrapolation, so that ridge and pseudo-inverse keep that distance small.
    taylor = lagrange_weights(histories, steps, order)
    weights = taylor + np.linalg.pinv(a + pull, rcond=1e-12, hermitian=True) @ (b - a @ taylor)
    left = (size - (2 * weights * b).sum(axis=1) + (weights * (a @ weights)).sum(axis=1)).clip(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return weights, np.where(left > 0, left / size, 0.0)


def lagrange_weights(histories: Steps, steps: Steps, order: int) -> Floats:
    """Weights of polynomial extrapolation of this order through the last computed steps (Lagrange).

    With fewer computed steps than that, the highest order they allow; one step means plain reuse.

    Args:
        histories: computed steps, (count, length), newest last.
        steps: skipped steps, (steps,).
        order: of the polynomial.

    Returns:
        (count, length, steps).
    """
    import numpy as np

    weights = np.zeros((*histories.shape, len(steps)))
    nodes = histories[:, -(order + 1) :].astype(np.float64)
    first = histories.shape[1] - nodes.shape[1]
    weights[:, first:] = 1.0
    for p in range(nodes.shape[1]):
        for q in range(nodes.shape[1]):
            if q != p:
                weights[:, first + p] *= (steps[None] - nodes[:, q, None]) / (nodes[:, p] - nodes[:, q])[:, None]
    return weights
