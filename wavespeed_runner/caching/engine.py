"""The cache engine: decides at every call of the denoiser whether its blocks are computed or cached features reused.

`Engine.decide` is where that decision is made. `attach/` puts the engine on a denoiser; it asks `decide` once a call
and, where the blocks ran, tells `record_computed`. The engine knows neither where blocks are nor how they are called.
It keeps the state of one generation: every guidance branch has its own, and within it every image of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING

from ..config.schema import CacheConfig, GuidanceBranches, Window
from ..registry import find_implementation
from .interfaces import DenoiserCall, Signal, StepInfo
from .rows import Streams, copy_rows, join_rows, replace_rows, split_optional_rows, split_rows
from .state import GenerationInfo, GuidanceBranchState, ImageState, Observer, PendingCall
from .trace import Decision, Trace
from .window import CacheHits, ask, count_head_blocks, is_inside_window

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Numbers = tuple[float, ...] | None
"""What a criterion decides by; None where there was nothing to compare with."""


@dataclass(kw_only=True)
class Engine:
    """A strategy at work in one generation."""

    cache: CacheConfig
    generation: GenerationInfo
    trace: Trace
    observer: Observer | None = None
    branches: dict[str, GuidanceBranchState] = field(default_factory=dict)
    latents: Tensor | None = None
    """The denoiser's input in the call in progress; set if `needs_model_io`."""
    _leader: tuple[int, str, list[bool]] | None = None
    """Step, branch and decisions of the branch that last decided for itself, with `guidance_branches=first`."""
    _last: GuidanceBranchState | None = None
    _steps: int = 0
    _sigmas: list[float] = field(default_factory=list)
    _progress: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.signal: Signal = find_implementation("cache/signal", self.cache.signal)(self.cache.signal)
        watches = find_implementation("cache/criterion", self.cache.criterion).watches
        self.needs_model_io = watches == "model" or self.signal.needs_latents or self.observer is not None
        """True if the engine must see the denoiser's input and output."""
        predictor = find_implementation("cache/predictor", self.cache.predictor)
        self.follows_head = count_head_blocks(self.cache) > 0 and getattr(predictor, "follows_head", False)
        """True if the predictor follows what the blocks that always run add, whatever the signal is."""

    def decide(
        self, branch: GuidanceBranchState, call: DenoiserCall, base: Mapping[str, Tensor | None]
    ) -> Streams | PendingCall:
        """Decides whether this step is computed or cached: the one place where reuse is decided.

        The signal is measured, and each image's criterion is asked whether to reuse. In a batch the blocks run if any
        image has to compute; rows of the other images are replaced afterwards.

        Args:
            branch: state of the call's guidance branch.
            call: what the signal may look at.
            base: the streams as the skippable blocks would get them, to which the predicted residual is added; None
                for a stream that the prediction replaces.

        Returns:
            If all images reuse, the streams after the skipped blocks. If the blocks have to run, what to pass to
            `record_computed` when they have.
        """
        signal = self.signal(call)
        signals = split_optional_rows(signal, self.generation.images)
        latents = split_optional_rows(self.latents, self.generation.images)
        numbers, skip = self._follow_leader(branch) or self._ask_criteria(branch, signals, latents, call.at)
        for i, image in enumerate(branch.images):
            image.meter.record_decision(signals[i], latents[i], computed=not skip[i])
            branch.hits[i].count(skip[i])
        self._record_decisions(branch, numbers, skip, call.at)
        branch.step += 1
        self._last = branch
        followed = call.after["hidden_states"] - call.before["hidden_states"] if self.follows_head else signal
        pending = PendingCall(branch=branch, call=call, signal=followed, base=base, skip=skip)
        return self._predict(pending) if all(skip) else pending

    def record_computed(self, pending: PendingCall, after: Streams) -> Streams:
        """Stores what the blocks computed.

        Blocks always run for all rows, so that no image's bits depend on what its neighbours in the batch decide.

        Returns:
            `after`, with the rows of images that reuse replaced by their prediction.
        """
        call, skip, images = pending.call, pending.skip, self.generation.images
        residual = {
            name: after[name] - base if base is not None else after[name] for name, base in pending.base.items()
        }
        if self.observer:
            self.observer.record_blocks(pending.branch.name, call, residual)
        predicted = self._predict(pending) if any(skip) else None
        parts, signals = copy_rows(residual, images), split_optional_rows(pending.signal, images)
        for i, image in enumerate(pending.branch.images):
            if not skip[i]:
                image.criterion.record_computed(call.at)
                image.predictor.record_computed(call.at, parts[i], signals[i])
                image.ready = True
        if predicted is None:
            return after
        return {**after, **{name: replace_rows(after[name], tensor, skip) for name, tensor in predicted.items()}}

    def record_output(self, output: Tensor) -> None:
        """Called with the denoiser's output when a call has ended; only if `needs_model_io`."""
        if self._last is None:
            return
        if self.observer:
            self.observer.record_output(self._last.name, output)
        rows = split_rows(output, self.generation.images)
        for image, image_output in zip(self._last.images, rows, strict=True):
            image.meter.record_output(image_output)

    def enter_branch(self, context: str | None, denoiser: torch.nn.Module) -> GuidanceBranchState:
        """The state of the guidance branch that this call belongs to; fresh if the denoiser is another one.

        Args:
            context: the pipeline's cache context. Pipelines without one have a branch for each call of a step: the
                first call of every step is one branch, the second another.
            denoiser: the module that is called.
        """
        if context is None:
            context = f"call {self.trace.calls_in_step}"
            self.trace.calls_in_step += 1
        images = range(self.generation.images)
        if context not in self.branches:
            self.branches[context] = GuidanceBranchState(name=context, images=[], hits=[CacheHits() for _ in images])
        branch = self.branches[context]
        if branch.denoiser is not denoiser:
            branch.denoiser, branch.images = denoiser, [ImageState(self.cache) for _ in images]
        return branch

    def locate_step(self, branch: GuidanceBranchState) -> StepInfo:
        """Where in the schedule the branch is. Unknown noise levels are taken as evenly spaced."""
        if not self._steps:
            self._steps, self._sigmas = self.generation.steps(), self.generation.sigmas()
            measured = self.cache.window is not Window.steps
            self._progress = self.generation.progress(self.cache.window) if measured else []
        known = branch.step < len(self._sigmas)
        sigma = self._sigmas[branch.step] if known else 1 - branch.step / max(self._steps, 1)
        progress = self._progress[branch.step] if branch.step < len(self._progress) else None
        order = [*self.branches].index(branch.name) + self.generation.first_branch()
        return StepInfo(step=branch.step, steps=self._steps, sigma=sigma, progress=progress, branch=order)

    def find_token_grid(self) -> tuple[int, ...] | None:
        """The grid of the latent tokens, where the denoiser's input is a sequence of them."""
        if self.latents is None or self.latents.ndim != 3:
            return None
        return self.generation.grid(self.latents.shape[1])

    def release_tensors(self) -> None:
        """Drops all tensors of the generation.

        The lists that replace a denoiser's own are instances of classes made for one generation, and every class is a
        reference cycle: without this, the features would stay in memory until the garbage collector runs.
        """
        self.branches.clear()
        self.latents = self._last = None

    def _follow_leader(self, branch: GuidanceBranchState) -> tuple[list[Numbers], list[bool]] | None:
        """With `guidance_branches=first`, the decisions that the step's first branch made; the others do not measure.

        None if this branch decides for itself.
        """
        if self.cache.guidance_branches is GuidanceBranches.separate or self._leader is None:
            return None
        step, name, skip = self._leader
        if step != branch.step or name == branch.name:
            return None
        for image in branch.images:
            image.criterion.level = None
        return [None] * len(skip), [skipped and p.ready for skipped, p in zip(skip, branch.images, strict=True)]

    def _ask_criteria(
        self,
        branch: GuidanceBranchState,
        signals: list[Tensor | None],
        latents: list[Tensor | None],
        at: StepInfo,
    ) -> tuple[list[Numbers], list[bool]]:
        """Each image's measured numbers, and whether it reuses cached features by them."""
        numbers = measure_changes(branch.images, signals, latents)
        skip = [self._should_reuse(branch, i, values, at) for i, values in enumerate(numbers)]
        self._leader = (branch.step, branch.name, skip)
        return numbers, skip

    def _should_reuse(self, branch: GuidanceBranchState, i: int, numbers: Numbers, at: StepInfo) -> bool:
        """Asks the criterion of image `i`, unless the window forbids reuse or there is nothing to reuse."""
        image = branch.images[i]
        return ask(image.criterion, self.cache, numbers if image.ready else None, at, branch.hits[i])

    def _predict(self, pending: PendingCall) -> Streams:
        """Base + predicted residual, row by row. Rows of images that compute hold arbitrary values."""
        signals = split_optional_rows(pending.signal, self.generation.images)
        predicted = [
            image.predictor.predict(pending.call.at, signals[i]) if pending.skip[i] else None
            for i, image in enumerate(pending.branch.images)
        ]
        filler = next(p for p in predicted if p is not None)
        joined = {name: join_rows([(p or filler)[name] for p in predicted]) for name in filler}
        return {name: t if (base := pending.base[name]) is None else t + base for name, t in joined.items()}

    def _record_decisions(
        self, branch: GuidanceBranchState, numbers: list[Numbers], skip: list[bool], at: StepInfo
    ) -> None:
        for i, values in enumerate(numbers):
            level = branch.images[i].criterion.level
            self.trace.decisions.append(
                Decision(
                    step=branch.step,
                    branch=branch.name,
                    image=i,
                    computed=not skip[i],
                    ran=not all(skip),
                    signal=values[0] if values else None,
                    level=float(level) if level is not None and isfinite(level) else None,
                    outside=at.progress is not None and not is_inside_window(self.cache, at),
                )
            )


def measure_changes(
    images: list[ImageState], signals: list[Tensor | None], latents: list[Tensor | None]
) -> list[Numbers]:
    """The numbers of each image's criterion, with one transfer from the device for all images."""
    if images[0].criterion.watches == "nothing":
        return [()] * len(images)
    measured = [image.meter.measure(s, x) for image, s, x in zip(images, signals, latents, strict=True)]
    known = [values for values in measured if values is not None]
    if len(known) < len(measured):
        return [None] * len(measured)
    numbers = fetch_numbers([tensor for values in known for tensor in values])
    size = len(numbers) // len(images)
    by_image = [tuple(numbers[first : first + size]) for first in range(0, len(numbers), size)]
    # 0 / 0 means that there was nothing to compare with; and JSON has no NaN.
    return [values if all(map(isfinite, values)) else None for values in by_image]


def fetch_numbers(tensors: list[Tensor]) -> list[float]:
    """The values of tensors of shape (), with one transfer from the device."""
    if len(tensors) == 1:
        return [tensors[0].item()]
    import torch

    numbers: list[float] = torch.stack(tensors).tolist()
    return numbers
