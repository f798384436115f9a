"""Dynamic mode decomposition: models the residuals as a sum of exponentials of the step.

The prediction lies in the span of the stored residuals, so it is a weighted sum of them, and the weights depend on the
residuals' inner products only. These few numbers leave the device once for each computed step that a cached one
follows, because eigenvalues need the host.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...config.schema import PartConfig
from ...errors import ConfigError
from ...registry import register
from ..interfaces import StepInfo
from ..means import total
from .history import History, Residual, combine
from .taylor import expansion_weights, monomial

if TYPE_CHECKING:
    from torch import Tensor

NEEDED = 4
"""Evenly spaced residuals that are needed: an oscillation takes two numbers, and both must be seen to change."""


@dataclass(kw_only=True)
class Dmd(PartConfig):
    """Options of `cache/predictor=dmd`."""

    name: str = "dmd"
    history: int = 6
    """How many residuals are kept. The dynamics drift, so more is not better."""
    tolerance: float = 1e-4
    """Directions of the history weaker than this, relative to the strongest, count as noise. At least the rounding
    error of the residuals' dtype is used: 2^-7 in bfloat16."""

    def __post_init__(self) -> None:
        """Refuses values that are out of range."""
        if not NEEDED <= self.history <= 16:
            raise ConfigError(f"cache.predictor.history={self.history}: allowed: {NEEDED} to 16; 6 is usual")
        if not 0 < self.tolerance < 1:
            raise ConfigError(f"cache.predictor.tolerance={self.tolerance}: allowed: between 0 and 1; 1e-4 is usual")


@register("cache/predictor", "dmd", Dmd)
class DmdPredictor:
    """Continues each mode of the last evenly spaced residuals by its eigenvalue: x + Phi (Lambda^k - 1) b.

    x is the last residual, with all streams and rows of the image as one vector; Phi b is the part of it that the modes
    explain; k is the distance to the wanted step in units of the spacing, also fractional. What the modes do not
    explain stays as it is. With fewer than four evenly spaced residuals it is Taylor extrapolation of order 1. Sources:
    P. J. Schmid, Dynamic mode decomposition of numerical and experimental data, J. Fluid Mech. 656 (2010); its use in
    caches: https://github.com/Archerkattri/hicache-plus-plus.
    """

    def __init__(self, options: Dmd) -> None:
        """Takes the options class above."""
        self.tolerance = options.tolerance
        self.history = History(options.history)
        # One row per residual: its inner products with the residuals stored before it and with itself.
        self.products: deque[Tensor] = deque(maxlen=options.history)
        # The same as a symmetric matrix on the host; None until it is needed.
        self.gram: list[list[float]] | None = None

    def record_computed(self, at: StepInfo, residual: Residual, signal: Tensor | None) -> None:
        """Stores the residual and its inner products."""
        import torch

        self.history.add(at.step, residual)
        if len(self.history) == 1:
            self.products.clear()
        self.products.append(torch.stack([_inner_product(residual, other) for other in self.history.residuals]))
        self.gram = None

    def predict(self, at: StepInfo, signal: Tensor | None) -> Residual:
        """The residual, extrapolated to this step."""
        residuals, positions = self.history.residuals, self.history.positions
        spacing, count = count_evenly_spaced(positions)
        weights = None
        if count >= NEEDED:
            gram = [row[-count:] for row in self._fetch_gram()[-count:]]
            ahead = (at.step - positions[-1]) / spacing
            weights = continuation_weights(gram, ahead, self._limit_tolerance(residuals[-1]))
        if weights is None:
            weights = expansion_weights(positions[-2:], at.step, monomial)
        return combine(residuals[-len(weights) :], weights)

    def _fetch_gram(self) -> list[list[float]]:
        if self.gram is None:
            import torch

            flat = iter(torch.cat(list(self.products)).tolist())
            rows = [[next(flat) for _ in row] for row in self.products]
            stored = [row[-(i + 1) :] for i, row in enumerate(rows)]
            self.gram = [[stored[max(i, j)][min(i, j)] for j in range(len(stored))] for i in range(len(stored))]
        return self.gram

    def _limit_tolerance(self, residual: Residual) -> float:
        import torch

        return max(self.tolerance, *(torch.finfo(tensor.dtype).eps for tensor in residual.values()))


def _inner_product(a: Residual, b: Residual) -> Tensor:
    """<a, b> over all streams; in float64 if the device has it, because neighbours differ in the last digits only."""
    import torch

    first = next(iter(a.values()))
    dtype = torch.float32 if first.device.type == "mps" else torch.float64
    product = first.new_zeros((), dtype=dtype)
    for name in a:
        product += torch.dot(a[name].flatten().to(dtype), b[name].flatten().to(dtype))
    return total(product)


def count_evenly_spaced(positions: Sequence[float]) -> tuple[float, int]:
    """The distance of the last two positions, and how many at the end have it; (0, 1) for a single position."""
    if len(positions) < 2:
        return 0.0, len(positions)
    distance, count = positions[-1] - positions[-2], 2
    while count < len(positions) and positions[-count] - positions[-count - 1] == distance:
        count += 1
    return distance, count


def continuation_weights(gram: Sequence[Sequence[float]], ahead: float, tolerance: float) -> list[float] | None:
    """Weights of the vectors x_0 .. x_m with which DMD continues them `ahead` spacings beyond x_m.

    Exact DMD in terms of inner products. With X = [x_0 .. x_(m-1)] = U S V^T (of rank r under `tolerance`) and
    Y = [x_1 .. x_m], it takes the eigenvalues mu and eigenvectors W of U^T Y V S^-1, and the modes Y V S^-1 W; the
    amplitudes of the modes are the least squares fit to x_m.

    Args:
        gram: inner products of x_0 .. x_m, (m + 1, m + 1).
        ahead: distance from x_m, in units of the spacing.
        tolerance: directions weaker than this, relative to the strongest, are left out.

    Returns:
        None if there is no answer: all vectors are zero, or numbers are not finite.
    """
    import numpy as np

    g = np.asarray(gram, dtype=np.float64)
    if not np.isfinite(g).all():
        return None
    energy, v = np.linalg.eigh(g[:-1, :-1])
    kept = energy > max(energy[-1], 0.0) * tolerance**2
    if not kept.any():
        return None
    scaled = v[:, kept] / np.sqrt(energy[kept])
    mu, w = np.linalg.eig(scaled.T @ g[:-1, 1:] @ scaled)
    modes = scaled @ w
    # A square root of the Gram matrix has the same geometry as the vectors, in m dimensions.
    e, q = np.linalg.eigh(g[1:, 1:])
    root = np.sqrt(e.clip(0))[:, None] * q.T
    amplitudes = np.linalg.lstsq(root @ modes, root[:, -1].astype(complex), rcond=None)[0]
    change = (modes @ ((mu.astype(complex) ** ahead - 1) * amplitudes)).real
    if not np.isfinite(change).all():
        return None
    weights = [0.0, *change.tolist()]
    weights[-1] += 1.0
    return weights
