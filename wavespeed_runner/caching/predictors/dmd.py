"""Dynamic mode decomposition: the residuals as a sum of exponentials of the step.

The forecast lies in the span of the residuals kept, so it is their weighted sum, and the weights follow from the
residuals' inner products alone: a few numbers, which leave the device once for each computed step that is followed by
a skipped one. Eigenvalues cannot be had without the host.
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
from .reuse import History, Residual, combine
from .taylor import expansion_weights, monomial

if TYPE_CHECKING:
    from torch import Tensor

NEEDED = 4
"""Residuals at even distances: an oscillation alone takes two numbers, and both have to be seen moving."""


@dataclass(kw_only=True)
class Dmd(PartConfig):
    name: str = "dmd"
    history: int = 6
    """Residuals kept. The dynamics drift, so more is not better."""
    tolerance: float = 1e-4
    """Directions of the history weaker than this, relative to the strongest, are noise. Never less than the rounding
    of the residuals' dtype: 2^-7 in bfloat16."""

    def __post_init__(self) -> None:
        if not NEEDED <= self.history <= 16:
            raise ConfigError(f"cache.predictor.history={self.history}: allowed: {NEEDED} to 16; 6 is usual")
        if not 0 < self.tolerance < 1:
            raise ConfigError(f"cache.predictor.tolerance={self.tolerance}: allowed: between 0 and 1; 1e-4 is usual")


@register("cache/predictor", "dmd", Dmd)
class DmdPredictor:
    """x + Phi (Lambda^k - 1) b: the modes of the last residuals at even distances, each continued by its eigenvalue.

    x is the last residual, all streams and rows of the image as one vector, Phi b what the modes explain of it, and k
    the way ahead in those distances, fractions too. What they do not explain stays as it is. Taylor of order 1 below
    four residuals at even distances. Sources: P. J. Schmid, Dynamic mode decomposition of numerical and experimental
    data, J. Fluid Mech. 656 (2010); its use in caches: https://github.com/Archerkattri/hicache-plus-plus.
    """

    def __init__(self, options: Dmd) -> None:
        self.tolerance = options.tolerance
        self.history = History(options.history)
        self.products: deque[Tensor] = deque(maxlen=options.history)
        """A row a residual: its inner products with those before it that were kept at the time, and with itself."""
        self.gram: list[list[float]] | None = None
        """The products' lower triangle on the host; None until it is needed."""

    def record_computed(self, at: StepInfo, residual: Residual, signal: Tensor | None) -> None:
        import torch

        self.history.add(at.step, residual)
        if len(self.history) == 1:
            self.products.clear()
        self.products.append(torch.stack([_inner(residual, other) for other in self.history.residuals]))
        self.gram = None

    def predict(self, at: StepInfo, signal: Tensor | None) -> Residual:
        residuals, positions = self.history.residuals, self.history.positions
        distance, count = count_evenly_spaced(positions)
        weights = None
        if count >= NEEDED:
            ahead = (at.step - positions[-1]) / distance
            weights = continuation_weights(
                [row[-count:] for row in self._gram()[-count:]], ahead, self._tolerance(residuals[-1])
            )
        if weights is None:
            weights = expansion_weights(positions[-2:], at.step, monomial)
        return combine(residuals[-len(weights) :], weights)

    def _gram(self) -> list[list[float]]:
        if self.gram is None:
            import torch

            flat = iter(torch.cat(list(self.products)).tolist())
            rows = [[next(flat) for _ in row] for row in self.products]
            kept = [row[-(i + 1) :] for i, row in enumerate(rows)]
            self.gram = [[kept[max(i, j)][min(i, j)] for j in range(len(kept))] for i in range(len(kept))]
        return self.gram

    def _tolerance(self, residual: Residual) -> float:
        import torch

        return max(self.tolerance, *(torch.finfo(tensor.dtype).eps for tensor in residual.values()))


def _inner(a: Residual, b: Residual) -> Tensor:
    """<a, b> over all streams. In float64 where the device has it: neighbours differ in the last digits."""
    import torch

    first = next(iter(a.values()))
    dtype = torch.float32 if first.device.type == "mps" else torch.float64
    total = first.new_zeros((), dtype=dtype)
    for name in a:
        total += torch.dot(a[name].flatten().to(dtype), b[name].flatten().to(dtype))
    return total


def count_evenly_spaced(positions: Sequence[float]) -> tuple[float, int]:
    """The distance of the last two positions, and how many at the end are that far apart; (0, 1) for one alone."""
    if len(positions) < 2:
        return 0.0, len(positions)
    distance, count = positions[-1] - positions[-2], 2
    while count < len(positions) and positions[-count] - positions[-count - 1] == distance:
        count += 1
    return distance, count


def continuation_weights(gram: Sequence[Sequence[float]], ahead: float, tolerance: float) -> list[float] | None:
    """Weights of the vectors x_0 .. x_m that continue them `ahead` distances beyond x_m.

    Exact DMD in inner products: with X = [x_0 .. x_(m-1)] = U S V^T (of rank r under `tolerance`) and
    Y = [x_1 .. x_m], the eigenvalues mu of U^T Y V S^-1, its eigenvectors W and the modes Y V S^-1 W; their amplitudes
    are the least squares fit to x_m.

    Args:
        gram: inner products of x_0 .. x_m, (m + 1, m + 1).

    Returns:
        None where nothing can be said: all zero, or not finite.
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
    # A square root of the Gram matrix has the vectors' geometry in m dimensions.
    e, q = np.linalg.eigh(g[1:, 1:])
    root = np.sqrt(e.clip(0))[:, None] * q.T
    amplitudes = np.linalg.lstsq(root @ modes, root[:, -1].astype(complex), rcond=None)[0]
    change = (modes @ ((mu.astype(complex) ** ahead - 1) * amplitudes)).real
    if not np.isfinite(change).all():
        return None
    weights = [0.0, *change.tolist()]
    weights[-1] += 1.0
    return weights
