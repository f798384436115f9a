"""Measures how much a signal, or the denoiser's input and output, changed since an earlier step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .means import mean

if TYPE_CHECKING:
    from torch import Tensor


class ChangeMeter:
    """Measures the numbers that a criterion decides by, for one image in one guidance branch.

    Keeps the tensors that are compared with. All arithmetic stays on the device; the engine fetches the results of all
    images in one transfer.
    """

    def __init__(self, watches: str) -> None:
        """Takes what to measure: a value of `Criterion.watches`."""
        self.watches = watches
        self._signal: Tensor | None = None
        """Of the last computed step, or of the previous step for `previous`."""
        self._signal_size: Tensor | None = None
        """mean|signal|, computed on demand: it stays the same over a run of cached steps."""
        self._latents: Tensor | None = None
        self._output: Tensor | None = None
        """The denoiser's output at the previous step, as `_latents` is its input."""
        self._rate: Tensor | None = None
        """Change of the output for each change of the input, at the last computed step."""
        self._current: tuple[Tensor | None, bool] = (None, True)
        """Input of the call in progress, and whether its blocks run."""

    def measure(self, signal: Tensor | None, latents: Tensor | None) -> tuple[Tensor, ...] | None:
        """The numbers that `Criterion.watches` names, each of shape (); None if there is nothing to compare with."""
        if self.watches == "model":
            if latents is None or self._latents is None or self._output is None or self._rate is None:
                return None
            return mean_change(latents, self._latents) / mean(self._output.abs()), self._rate
        if signal is None or self._signal is None or self._signal.shape != signal.shape:
            return None
        if self._signal_size is None:
            self._signal_size = mean(self._signal.abs())
        return (mean_change(signal, self._signal) / self._signal_size,)

    def record_decision(self, signal: Tensor | None, latents: Tensor | None, *, computed: bool) -> None:
        """Called after each decision, before the call's output is known."""
        if computed or self.watches == "previous":
            self._signal, self._signal_size = signal, None
        self._current = (latents, computed)

    def record_output(self, output: Tensor) -> None:
        """Called with the denoiser's output of this call."""
        if self.watches != "model":
            return
        latents, computed = self._current
        if computed and latents is not None and self._latents is not None and self._output is not None:
            self._rate = mean_change(output, self._output) / mean_change(latents, self._latents)
        self._latents, self._output = latents, output


def mean_change(now: Tensor, then: Tensor) -> Tensor:
    """mean|now - then|, of shape (), over all ranks.

    In the order and precision of diffusers' `FBCHeadBlockHook`, so that decisions agree to the last bit.
    """
    return mean((now - then).abs())
