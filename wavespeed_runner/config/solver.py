"""The numbers of a fitted sampler: coefficients of a multistep solver with a few evaluations of the denoiser.

With K evaluations, m_n the denoiser's output at evaluation n:

    x_(n+1) = a_n x_0 + sum over j <= n of c_nj m_j        n = 0 .. K - 1

x_0 is the noise that a generation starts from, x_K its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

NAME = "fitted"
"""Of the sampler that takes these numbers."""
MAX_EVALUATIONS = 64
LARGEST = 1e4
"""Coefficients of a solver that works are below a hundred."""


@dataclass(frozen=True, kw_only=True)
class Solver:
    """A solver that starts from noise."""

    timesteps: list[float]
    """What the denoiser is told at each evaluation: training timesteps, descending."""
    noise_weights: list[float]
    """a_n: the weight of the initial noise in the state after each evaluation."""
    output_weights: list[list[float]]
    """c_nj: the weights of the outputs so far in that state; row n (from 0) has n + 1 numbers."""
    noise_scale: float = 1.0
    """What the initial noise is multiplied with before the first evaluation."""

    def find_problem(self) -> str:
        """Why these are no solver's numbers, as `key: what is wrong`; empty: they are."""
        times, noise, rows = self.timesteps, self.noise_weights, self.output_weights
        # An interpolation puts anything into their place.
        for name, numbers in (("timesteps", times), ("noise_weights", noise)):
            if not _is_list(numbers, int, float):
                return f"{name}: a list of numbers is needed"
        if not (_is_list(rows, list) and all(_is_list(row, int, float) for row in rows)):
            return "output_weights: a list of lists of numbers is needed"
        if not 1 <= len(times) <= MAX_EVALUATIONS:
            return f"timesteps: 1 to {MAX_EVALUATIONS} numbers are needed, one an evaluation"
        if not all(isfinite(t) and 0 <= t <= LARGEST for t in times) or list(times) != sorted(set(times), reverse=True):
            return f"timesteps: numbers of 0 to {LARGEST:g} are needed, in descending order"
        if len(noise) != len(times) or not all(isfinite(a) and 1 / LARGEST <= abs(a) <= LARGEST for a in noise):
            return f"noise_weights: {len(times)} numbers of {1 / LARGEST:g} to {LARGEST:g} are needed"
        if [len(row) for row in rows] != [*range(1, len(times) + 1)]:
            return f"output_weights: {len(times)} rows are needed, the first of one number, each next of one more"
        if not all(isfinite(c) and abs(c) <= LARGEST for row in rows for c in row):
            return f"output_weights: finite numbers up to {LARGEST:g} are needed"
        if not (isfinite(self.noise_scale) and 1 / LARGEST <= self.noise_scale <= LARGEST):
            return f"noise_scale: a number of {1 / LARGEST:g} to {LARGEST:g} is needed"
        return ""


def _is_list(value: object, *kinds: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kinds) and not isinstance(item, bool) for item in value)
