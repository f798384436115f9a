"""Measures change: what a criterion's numbers are made of, for one image in one guidance branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Watch:
    """Keeps what a criterion compares with. Arithmetic stays on the device; the engine fetches all numbers at once."""

    def __init__(self, watches: str) -> None:
        self.watches = watches
        self.signal: Tensor | None = None
        """That of the last computed step, or of the step before."""
        self.latents: Tensor | None = None
        self.output: Tensor | None = None
        """Of the step before, as `latents`: the denoiser's."""
        self.rate: Tensor | None = None
        """How much the output changed for each change of the input, at the last computed step."""
        self._size: Tensor | None = None
        """mean|signal|, once it was asked for: over a run of skipped steps it stays the same."""
        self._seen: tuple[Tensor | None, Tensor | None, bool] = (None, None, True)

    def measure(self, signal: Tensor | None, latents: Tensor | None) -> tuple[Tensor, ...] | None:
        """The numbers that `Criterion.watches` names, each a tensor of shape (); None where there is nothing to compare
        with."""
        if self.watches == "model":
            if latents is None or self.latents is None or self.output is None or self.rate is None:
                return None
            return mean_change(latents, self.latents) / self.output.abs().mean(), self.rate
        if signal is None or self.signal is None or self.signal.shape != signal.shape:
            return None
        if self._size is None:
            self._size = self.signal.abs().mean()
        return (mean_change(signal, self.signal) / self._size,)

    def decided(self, signal: Tensor | None, latents: Tensor | None, *, computed: bool) -> None:
        """Told after each decision; the output comes later."""
        if computed or self.watches == "previous":
            self.signal, self._size = signal, None
        self._seen = (signal, latents, computed)

    def gave(self, output: Tensor) -> None:
        """The denoiser's output of this call."""
        if self.watches != "model":
            return
        _, latents, computed = self._seen
        if computed and latents is not None and self.latents is not None and self.output is not None:
            self.rate = mean_change(output, self.output) / mean_change(latents, self.latents)
        self.latents, self.output = latents, output


def mean_change(now: Tensor, then: Tensor) -> Tensor:
    """mean|now - then|. In the order and precision of diffusers' `FBCHeadBlockHook`, so that decisions agree to the
    last bit."""
    return (now - then).abs().mean()
