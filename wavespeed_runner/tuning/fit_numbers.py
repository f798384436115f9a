"""What all fits share: numbers that can be moved, and the loss that is minimised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from torch import Tensor

BOUND = 0.05
"""Relative error of an image above which it counts little more: images that have become another one would otherwise
rule the fit, though no numbers bring them back."""
LEARNING_RATE = 3e-3
"""Of weights, relative to the largest ones."""


@dataclass(frozen=True, kw_only=True)
class Free:
    """A vector of free numbers, float64, and how far Adam moves them in its first steps."""

    values: Tensor
    rate: float


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What some numbers made of some images, each flat: D numbers an image."""

    noise: Tensor
    """(images, D), multiplied with the noise scale."""
    outputs: list[Tensor]
    """The denoiser's outputs: a tensor of (images, D) for each evaluation."""
    result: Tensor
    """(images, D)"""


class Fittable(Protocol):
    """Numbers that are fitted: a solver's (`fit_sampler.Numbers`), or a cache's (`fit_cache.Weights`)."""

    def list_free(self) -> list[Free]:
        """The free numbers."""
        ...

    def put(self, values: Sequence[Tensor]) -> Self:
        """The same with other free numbers, in the order of `list_free`; differentiable."""
        ...

    def correct(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The nearest free numbers that are allowed."""
        ...

    def find_derivatives(self, made: Rollout) -> dict[int, Tensor]:
        """Derivatives of the result that are known without trying: position among all free numbers -> (images, D)."""
        ...


def robust_loss(errors: Tensor) -> Tensor:
    """(n,): e / (e + BOUND) + BOUND log e: bounded for what is lost, and never satisfied with what is good."""
    errors = errors.clamp(min=1e-9)
    return errors / (errors + BOUND) + BOUND * errors.log()


def robust_weights(errors: Tensor) -> Tensor:
    """(n,): the derivative of `robust_loss`, by which an image counts in a least squares step."""
    errors = errors.clamp(min=1e-9)
    return BOUND / (errors + BOUND) ** 2 + BOUND / errors


def scale_rate(values: Tensor) -> float:
    """The learning rate of weights of this size."""
    return LEARNING_RATE * float(values.detach().abs().max())


def to_plain(tensor: Tensor) -> list[Any]:
    """Numbers as a calibration keeps them: 9 significant digits, which float32 needs."""
    return [float(f"{value:.9g}") for value in tensor.detach().tolist()]
