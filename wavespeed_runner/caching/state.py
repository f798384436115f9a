"""What the engine knows of a generation, and the state that it keeps while one runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..config.schema import CacheConfig, Window
from ..registry import find_implementation
from .change_meter import ChangeMeter
from .interfaces import Criterion, DenoiserCall, Predictor
from .means import AddUp
from .rows import Streams
from .window import CacheHits

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(kw_only=True)
class GenerationInfo:
    """What strategies are told about the generation they are attached for."""

    steps: Callable[[], int]
    """How many times each guidance branch calls the denoiser. Called late, because a pipeline that starts from an image
    shortens its schedule late."""
    sigmas: Callable[[], list[float]] = list
    """The noise level of each of these calls; empty where the sampler does not say."""
    progress: Callable[[Window], list[float]] = lambda window: []
    """How far sampling is at each of them, from 0 to 1, by the measure of a window that does not count steps."""
    timesteps: Callable[[], list[float]] = list
    """The training timestep of each of them, for diffusers' own strategies."""
    images: int = 1
    """Images in the batch. Pipelines that batch guidance pass a multiple of it: row i belongs to image i % images."""
    flow: bool = True
    """True if sigmas are flow-matching noise levels."""
    channel_axis: int = 1
    """Axis of the channels in the denoiser's input."""
    add_up: AddUp | None = None
    """Where the tokens are divided among ranks: adds up over all of them. None: one process has them all."""
    first_branch: Callable[[], int] = lambda: 0
    """Which guidance branch of a step is the first one here; 1 on a rank that computes the second one only."""
    own_tokens: int | None = None
    """How many of the latent tokens are those of the image that is made: the first ones, before those of an image that
    is read. None: all."""
    grid: Callable[[int], tuple[int, ...] | None] = lambda tokens: None
    """Number of latent tokens -> their (height, width) or (frames, height, width)."""


class Observer(Protocol):
    """Watches every computed call; calibration records with it."""

    def record_blocks(self, branch: str, call: DenoiserCall, residual: Streams) -> None:
        """Called when the blocks have run. residual: stream name -> what the skippable blocks added to it."""
        ...

    def record_output(self, branch: str, output: Tensor) -> None:
        """Called with the denoiser's output of that call."""
        ...


class ImageState:
    """Criterion, predictor and measurements of one image in one guidance branch."""

    def __init__(self, cache: CacheConfig) -> None:
        """Fresh state for the strategy `cache`."""
        assert cache.criterion and cache.predictor, "the rule `cache-parts` checks this"
        self.criterion: Criterion = find_implementation("cache/criterion", cache.criterion)(cache.criterion)
        self.predictor: Predictor = find_implementation("cache/predictor", cache.predictor)(cache.predictor)
        self.meter = ChangeMeter(self.criterion.watches)
        self.ready = False
        """True once a computed step's features are stored."""


@dataclass(kw_only=True)
class GuidanceBranchState:
    """State of one guidance branch."""

    name: str
    images: list[ImageState]
    hits: list[CacheHits]
    """One an image."""
    denoiser: torch.nn.Module | None = None
    """The denoiser whose features `images` hold. Of two denoisers each starts with none."""
    step: int = 0


@dataclass(kw_only=True)
class PendingCall:
    """A call whose blocks have to run, and what the engine needs once they have."""

    branch: GuidanceBranchState
    call: DenoiserCall
    signal: Tensor | None
    """What the predictor follows."""
    base: Mapping[str, Tensor | None]
    """The streams to which residuals are added, see `Engine.decide`."""
    skip: list[bool]
    """One an image: True if its rows are replaced by the prediction nevertheless."""
