"""What a cache strategy is made of: the protocols that a signal, a criterion and a predictor implement.

A strategy answers, at every call of the denoiser, "compute the blocks, or reuse what is cached?". It has four parts,
which YAML combines freely:

- `Signal`: picks the tensor whose change is measured (`cache/signal`);
- `Criterion`: decides from the measured change whether to reuse (`cache/criterion`);
- `Predictor`: supplies what the skipped blocks would have added (`cache/predictor`);
- the window: where the criterion may act at all. It is no class but keys of every strategy (`cache.start`, `cache.end`,
  `cache.max_consecutive_cache_hits`, ...), see `window.py`.

A plugin registers a class for one of the first three with `registry.register("cache/signal", name, options)`;
`plugins/example` does all of them. The engine builds a new criterion and a new predictor for every generation, for each
guidance branch and each image of a batch, so they may keep state; the tensors they are given hold that one image's rows
only. Criteria see numbers and never tensors, so a recorded trace can be replayed with any threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class StepInfo:
    """The step that a call of the denoiser belongs to."""

    step: int
    """Index in the schedule as it runs, counted from 0. With samplers that call the denoiser twice a step, calls are
    counted."""
    steps: int
    """Length of that schedule."""
    sigma: float
    """Noise level. Flow matching: sigma, 1 is pure noise and 0 the image. Diffusion: sqrt((1 - abar) / abar)."""
    progress: float | None = None
    """How far sampling is, from 0 to 1, by the measure of `cache.window`; None for `steps`, and where it is unknown."""
    branch: int = 0
    """Which guidance branch calls, in the order of a step: 0 is the first one, in diffusers' pipelines the prompt's."""


@dataclass(kw_only=True)
class DenoiserCall:
    """One call of the denoiser as a signal sees it: up to the end of the blocks that always run."""

    at: StepInfo
    before: Mapping[str, Tensor]
    """Token streams at the input of the first block, each (rows, tokens, channels): `hidden_states`, and others under
    the names that the model family uses."""
    after: Mapping[str, Tensor]
    """The same streams after the blocks that always run; `before` itself where no block always runs."""
    latents: Tensor | None = None
    """The denoiser's input as the pipeline passes it; set for signals with `needs_latents`."""
    first_block: torch.nn.Module | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the first block, by name."""
    modulated: Callable[[Any, dict[str, Tensor], dict[str, Any]], Tensor] | None = None
    """(first block, streams, arguments) -> the first block's timestep-modulated input; None if the family has none."""
    flow: bool = True
    """True if `at.sigma` is a flow-matching noise level."""
    channel_axis: int = 1
    """Axis of the channels in `latents`; 2 where frames come before channels."""
    grid: tuple[int, ...] | None = None
    """(height, width) or (frames, height, width) of the latent tokens, where the pipeline packs them into a
    sequence."""


class Signal(Protocol):
    """Picks the tensor of a call whose change is measured. Keeps no state."""

    needs_latents: ClassVar[bool]
    """True if the signal reads `DenoiserCall.latents`."""

    def __init__(self, options: Any) -> None:
        """Takes the options class that it was registered with."""
        ...

    def __call__(self, call: DenoiserCall) -> Tensor | None:
        """The tensor to watch, (rows, ...); None if there is none, as for schedules."""
        ...


class Criterion(Protocol):
    """Decides at each step whether cached features may be reused."""

    watches: ClassVar[str]
    """Which numbers the engine measures for `should_reuse`, all fetched from the device in one transfer:

    computed: (c,)   mean|s - s_c| / mean|s_c|, s the signal, s_c the signal at the last computed step
    previous: (c,)   the same against the previous step, whether that was computed or not
    model: (c, k)    c = mean|x - x_p| / mean|out_p|, x the denoiser's input, out its output, p the previous step;
                     k = mean|out - out_p| / mean|x - x_p| of the last computed step
    nothing: ()      for schedules, which decide by the step alone
    """
    level: float | None
    """The value that the last `should_reuse` compared with the threshold; None for schedules."""

    def __init__(self, options: Any) -> None:
        """Takes the options class that it was registered with."""
        ...

    def should_reuse(self, numbers: tuple[float, ...], at: StepInfo) -> bool:
        """True if this step may reuse cached features.

        Called only inside the window, once something is cached and the numbers of `watches` could be measured.
        """
        ...

    def record_computed(self, at: StepInfo) -> None:
        """Called after every computed step, also where the window or a limit forced it.

        A criterion that has to know of steps outside of the window has a method `pass_by(numbers, at)`, which is called
        there first; numbers is None where nothing could be measured.
        """
        ...


class Predictor(Protocol):
    """Supplies the residual of the blocks that a cached step skips.

    One with the class attribute `follows_head = True` is given, as the signal, what the blocks that always run add,
    where there are such blocks.
    """

    def __init__(self, options: Any) -> None:
        """Takes the options class that it was registered with."""
        ...

    def record_computed(self, at: StepInfo, residual: dict[str, Tensor], signal: Tensor | None) -> None:
        """Called after every computed step.

        Args:
            at: the step.
            residual: stream name -> what the skippable blocks added to it, (rows, ...).
            signal: the signal's tensor of that step.
        """
        ...

    def predict(self, at: StepInfo, signal: Tensor | None) -> dict[str, Tensor]:
        """The residual of a skipped step: same streams, shapes and dtypes as were recorded."""
        ...
