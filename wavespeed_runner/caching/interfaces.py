"""What the parts of a strategy are to each other: the protocols of signals, criteria and predictors.

The engine keeps one criterion and one predictor for each guidance branch and each image of a batch, fresh for every
generation; tensors that they are given hold that image's rows alone. Criteria know no tensors: the engine measures
and hands them numbers, so that a recorded trace can be replayed with any threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class At:
    """Where in a generation a call of the denoiser is."""

    step: int
    """Of the schedule as it runs, counted from 0; samplers that call the denoiser twice a step count calls."""
    steps: int
    sigma: float
    """Noise level: sigma of flow matching (1 is noise, 0 the image); of diffusion models sqrt((1 - abar) / abar)."""


@dataclass(kw_only=True)
class Seen:
    """What a signal may look at: one call of the denoiser, up to the end of the blocks that always run."""

    at: At
    before: Mapping[str, Tensor]
    """Streams of tokens at the input of the first block: `hidden_states`, and others by the family's names."""
    after: Mapping[str, Tensor]
    """The same behind the blocks that always run; `before` itself where none does."""
    latents: Tensor | None = None
    """The denoiser's input, as the pipeline gives it; for signals with `looks_at_latents`."""
    first_block: Any = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What the first block is called with, by name."""
    modulated: Any = None
    """(first block, streams, arguments) -> the first block's timestep-modulated input; None: the family has none."""
    flow: bool = True
    """Whether `at.sigma` is that of flow matching."""
    channels: int = 1
    """The axis of the channels in `latents`; 2 where frames come before them."""
    grid: tuple[int, ...] | None = None
    """Latent tokens as (height, width) or (frames, height, width), where the pipeline packs them into a sequence."""


class Signal(Protocol):
    """Looks at a call and gives the tensor whose change is measured; shape (rows, ...). No state of its own."""

    looks_at_latents: ClassVar[bool]
    """Whether it wants `Seen.latents`."""

    def __init__(self, options: Any) -> None: ...

    def __call__(self, seen: Seen) -> Tensor | None: ...


class Criterion(Protocol):
    """When to reuse."""

    watches: ClassVar[str]
    """Which numbers the engine measures for it at each step, with one transfer from the device:

    computed: (c,)   mean|s - s_c| / mean|s_c|, s the signal, s_c that at the last computed step
    previous: (c,)   the same against the step before, computed or not
    model: (c, k)    c = mean|x - x_p| / mean|out_p|, x the denoiser's input, out its output, p the step before;
                     k = mean|out - out_p| / mean|x - x_p| of the last computed step
    nothing: ()      schedules
    """
    level: float | None
    """What was compared with the threshold at the last `reuse`; None for schedules."""

    def __init__(self, options: Any) -> None: ...

    def reuse(self, numbers: tuple[float, ...], at: At) -> bool:
        """Whether this step may be skipped. Asked only inside the window, and where there are numbers."""
        ...

    def computed(self, at: At) -> None:
        """Told after every computed step, also after those that the window or a limit forced."""
        ...


class Predictor(Protocol):
    """What stands in for the skipped blocks."""

    def __init__(self, options: Any) -> None: ...

    def computed(self, at: At, residual: dict[str, Tensor], seen: Tensor | None) -> None:
        """residual: {stream: what the skipped part added}. seen: the signal's tensor."""
        ...

    def predict(self, at: At, seen: Tensor | None) -> dict[str, Tensor]:
        """The same for a skipped step: dtype and shape as given."""
        ...
