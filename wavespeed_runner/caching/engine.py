"""Decides, call by call, whether a denoiser's blocks run; what stands in for them when not.

The engine knows neither where blocks are nor how they are called: `blocks.py` and `unet.py` put it on a denoiser and
ask it, once a call, `decide`, and, where the blocks ran, `computed`. It keeps the state of one generation; every
guidance branch has its own, and in it every image of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

from ..config.schema import CacheConfig, GuidanceBranches
from ..registry import implementation_of
from .change_meter import Watch
from .interfaces import At, Criterion, Predictor, Seen, Signal
from .trace import Decision, Trace
from .window import Hits, allows

if TYPE_CHECKING:
    from torch import Tensor

Streams = dict[str, "Tensor"]


@dataclass(kw_only=True)
class Run:
    """What the engine must know of a generation."""

    steps: Callable[[], int]
    """How many calls of the denoiser a guidance branch has; asked for late, because a pipeline that starts from a
    image settles it late."""
    sigmas: Callable[[], list[float]] = list
    """The noise level of each of them; empty where the sampler does not say."""
    timesteps: Callable[[], list[float]] = list
    """The training timestep of each of them, for diffusers' own strategies."""
    images: int = 1
    """In the batch. Pipelines that batch guidance give a multiple of it: row i belongs to image i % images."""
    flow: bool = True
    """Whether sigmas are those of flow matching."""
    channels: int = 1
    """The axis of the channels in the denoiser's input."""
    grid: Callable[[int], tuple[int, ...] | None] = lambda tokens: None
    """Number of latent tokens -> their (height, width) or (frames, height, width)."""


class Observer(Protocol):
    """Looks on at every computed call: what calibration records."""

    def __call__(self, branch: str, seen: Seen, residual: Streams) -> None: ...

    def gave(self, branch: str, output: Tensor) -> None:
        """The denoiser's output of that call."""
        ...


class Image:
    """Strategy state of one image in one guidance branch."""

    def __init__(self, cache: CacheConfig) -> None:
        assert cache.criterion and cache.predictor, "the rule `cache-parts` has seen to it"
        self.criterion: Criterion = implementation_of("cache/criterion", cache.criterion)(cache.criterion)
        self.predictor: Predictor = implementation_of("cache/predictor", cache.predictor)(cache.predictor)
        self.watch = Watch(self.criterion.watches)
        self.ready = False
        """Whether something was computed that can stand in."""


@dataclass(kw_only=True)
class Branch:
    """State of one guidance branch."""

    name: str
    images: list[Image]
    hits: list[Hits]
    denoiser: Any = None
    """The one whose features the images' states hold; of two denoisers each starts with none."""
    step: int = 0


@dataclass(kw_only=True)
class Pending:
    """A call whose blocks run: what is needed when they have."""

    branch: Branch
    seen: Seen
    signal: Tensor | None
    base: Mapping[str, Tensor | None]
    skip: list[bool]


@dataclass(kw_only=True)
class Engine:
    """One generation."""

    cache: CacheConfig
    run: Run
    trace: Trace
    observer: Observer | None = None
    branches: dict[str, Branch] = field(default_factory=dict)
    latents: Tensor | None = None
    """The denoiser's input in the call that is going on."""
    _leader: tuple[int, str, list[bool]] | None = None
    _last: Branch | None = None
    _steps: int = 0
    _sigmas: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.signal: Signal = implementation_of("cache/signal", self.cache.signal)(self.cache.signal)
        watches = implementation_of("cache/criterion", self.cache.criterion).watches
        self.looks_at_model = watches == "model" or self.signal.looks_at_latents or self.observer is not None
        """Whether the denoiser's own input and output are wanted."""

    def branch(self, context: str | None, denoiser: Any) -> Branch:
        """The guidance branch of this call. Pipelines that open no cache context for their branches have one a call:
        the first call of each step is one branch, the second another."""
        if context is None:
            context = f"call {self.trace.calls}"
            self.trace.calls += 1
        if context not in self.branches:
            hits = [Hits() for _ in range(self.run.images)]
            self.branches[context] = Branch(name=context, images=[], hits=hits)
        branch = self.branches[context]
        if branch.denoiser is not denoiser:
            branch.denoiser, branch.images = denoiser, [Image(self.cache) for _ in range(self.run.images)]
        return branch

    def grid(self) -> tuple[int, ...] | None:
        """Of the denoiser's input, where that is a sequence of tokens."""
        packed = self.latents is not None and self.latents.ndim == 3
        return self.run.grid(self.latents.shape[1]) if packed and self.latents is not None else None

    def at(self, branch: Branch) -> At:
        """Where the call is. Without the sampler's noise levels they are taken as evenly spaced."""
        if not self._steps:
            self._steps, self._sigmas = self.run.steps(), self.run.sigmas()
        known = branch.step < len(self._sigmas)
        sigma = self._sigmas[branch.step] if known else 1 - branch.step / max(self._steps, 1)
        return At(step=branch.step, steps=self._steps, sigma=sigma)

    def decide(self, branch: Branch, seen: Seen, base: Mapping[str, Tensor | None]) -> Streams | Pending:
        """What stands in for the skipped blocks; or, when they must run, what to hand to `computed`.

        base: the streams as the skipped blocks would get them, to which the predicted residual is added; None for one
            that the prediction replaces.
        """
        looked = self.signal(seen)
        parts, latents = self._rows(looked), self._rows(self.latents)
        numbers, skip = self._followed(branch) or self._judged(branch, parts, latents, seen.at)
        for i, image in enumerate(branch.images):
            image.watch.decided(parts[i], latents[i], computed=not skip[i])
            branch.hits[i].count(skip[i])
        self._note(branch, numbers, skip, ran=not all(skip))
        branch.step += 1
        self._last = branch
        pending = Pending(branch=branch, seen=seen, signal=looked, base=base, skip=skip)
        return self._predicted(pending) if all(skip) else pending

    def computed(self, call: Pending, after: Streams) -> Streams:
        """Told what the blocks gave. Returns it, with the rows of images that skip replaced: blocks run when any
        image wants it, for all rows, so that no image's bits depend on what its neighbours decide."""
        residual = {name: after[name] - base if base is not None else after[name] for name, base in call.base.items()}
        if self.observer:
            self.observer(call.branch.name, call.seen, residual)
        standing = self._predicted(call) if any(call.skip) else None
        parts, signals = self._parts(residual), self._rows(call.signal)
        for i, image in enumerate(call.branch.images):
            if not call.skip[i]:
                image.criterion.computed(call.seen.at)
                image.predictor.computed(call.seen.at, parts[i], signals[i])
                image.ready = True
        if standing is None:
            return after
        return {**after, **{name: self._mixed(after[name], tensor, call.skip) for name, tensor in standing.items()}}

    def forget(self) -> None:
        """Lets go of all tensors. The lists and walks that stand in for a denoiser's own are classes made for them, and
        every class is a cycle: they are freed at some later time, and not with a generation's features."""
        self.branches.clear()
        self.latents = self._last = None

    def gave(self, output: Tensor) -> None:
        """The denoiser's output of the call that has ended."""
        if self._last is not None:
            if self.observer:
                self.observer.gave(self._last.name, output)
            for image, rows in zip(self._last.images, self._rows(output), strict=True):
                assert rows is not None
                image.watch.gave(rows)

    def _numbers(self, branch: Branch, signals: list[Any], latents: list[Any]) -> list[tuple[float, ...] | None]:
        """Each image's numbers, with one transfer from the device for all; none at all for schedules."""
        if branch.images[0].criterion.watches == "nothing":
            return [()] * len(branch.images)
        measured = [p.watch.measure(s, x) for p, s, x in zip(branch.images, signals, latents, strict=True)]
        tensors = [tensor for one in measured if one is not None for tensor in one]
        if None in measured:
            return [None] * len(measured)
        found = fetched(tensors)
        each = len(found) // len(measured)
        by_image = [tuple(found[first : first + each]) for first in range(0, len(found), each)]
        # 0 / 0: nothing to compare with; and JSON has no NaN.
        return [numbers if all(map(isfinite, numbers)) else None for numbers in by_image]

    def _may_skip(self, branch: Branch, i: int, numbers: tuple[float, ...] | None, at: At) -> bool:
        image = branch.images[i]
        if numbers is None or not image.ready or not allows(self.cache, at.step, at.steps, branch.hits[i]):
            image.criterion.level = None
            return False
        return image.criterion.reuse(numbers, at)

    def _judged(
        self, branch: Branch, signals: list[Any], latents: list[Any], at: At
    ) -> tuple[list[tuple[float, ...] | None], list[bool]]:
        """Each image's numbers, and whether it may be skipped by them."""
        numbers = self._numbers(branch, signals, latents)
        skip = [self._may_skip(branch, i, found, at) for i, found in enumerate(numbers)]
        self._leader = (branch.step, branch.name, skip)
        return numbers, skip

    def _followed(self, branch: Branch) -> tuple[list[tuple[float, ...] | None], list[bool]] | None:
        """With `guidance_branches=first` the step's first branch decides for those after it, which measure nothing."""
        if self.cache.guidance_branches is GuidanceBranches.separate or self._leader is None:
            return None
        step, name, skip = self._leader
        if step != branch.step or name == branch.name:
            return None
        for image in branch.images:
            image.criterion.level = None
        return [None] * len(skip), [wanted and p.ready for wanted, p in zip(skip, branch.images, strict=True)]

    def _predicted(self, call: Pending) -> Streams:
        """base + prediction, row by row; rows of images that do not skip are as good as anything."""
        signals = self._rows(call.signal)
        predicted = [
            image.predictor.predict(call.seen.at, signals[i]) if call.skip[i] else None
            for i, image in enumerate(call.branch.images)
        ]
        filler = next(p for p in predicted if p is not None)
        joined = {name: self._joined([(p or filler)[name] for p in predicted]) for name in filler}
        return {name: t if (base := call.base[name]) is None else t + base for name, t in joined.items()}

    def _rows(self, tensor: Tensor | None) -> list[Any]:
        """Each image's rows of a batch: views."""
        n = self.run.images
        return [None] * n if tensor is None else [tensor] if n == 1 else [tensor[i::n] for i in range(n)]

    def _parts(self, residual: Streams) -> list[Streams]:
        """Each image's own. They compute at different steps: a view of a batch would keep the rows of all others."""
        n = self.run.images
        return [residual] if n == 1 else [{name: t[i::n].clone() for name, t in residual.items()} for i in range(n)]

    def _joined(self, parts: list[Tensor]) -> Tensor:
        """The batch of each image's rows."""
        if len(parts) == 1:
            return parts[0]
        import torch

        return torch.stack(parts, dim=1).flatten(0, 1)

    def _mixed(self, computed: Tensor, standing: Tensor, skip: list[bool]) -> Tensor:
        result = computed.clone()
        for i, skipped in enumerate(skip):
            if skipped:
                result[i :: self.run.images] = standing[i :: self.run.images]
        return result

    def _note(self, branch: Branch, numbers: list[Any], skip: list[bool], *, ran: bool) -> None:
        for i, found in enumerate(numbers):
            level = branch.images[i].criterion.level
            self.trace.decisions.append(
                Decision(
                    step=branch.step,
                    branch=branch.name,
                    image=i,
                    computed=not skip[i],
                    ran=ran,
                    signal=found[0] if found else None,
                    level=level if level is not None and isfinite(level) else None,
                )
            )


def fetched(numbers: list[Tensor]) -> list[float]:
    """Tensors of shape () as numbers, with one transfer."""
    if len(numbers) == 1:
        return [numbers[0].item()]
    import torch

    found: list[float] = torch.stack(numbers).tolist()
    return found
