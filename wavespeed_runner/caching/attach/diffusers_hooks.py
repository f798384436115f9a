"""Strategies that diffusers has and we put on as they are: FasterCache and Pyramid Attention Broadcast (PAB).

They hook attention modules, not blocks, and skip by a fixed schedule over the training timesteps, so that signal,
criterion, predictor and window are none of theirs. Ours is what diffusers leaves to its caller: the timestep, without
waiting for the device; clean state for every generation, also after one that failed; what cannot work is refused; and
what was skipped is counted.

Sources: https://arxiv.org/abs/2410.19355 (FasterCache), https://arxiv.org/abs/2408.12588 (PAB), `diffusers.hooks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from math import inf
from typing import TYPE_CHECKING, Any

from ...config.schema import CacheConfig
from ...errors import RunError
from ...registry import register
from ..engine import Run
from ..trace import Trace
from .diffusers_options import FasterCache, PyramidAttentionBroadcast, Wrapped

if TYPE_CHECKING:
    import torch

FRAMES_FIRST = ("CogVideoXTransformer3DModel",)
"""Denoisers of videos that are given (n, frames, channels, h, w)."""


@contextmanager
def wrapped(denoisers: Sequence[torch.nn.Module], cache: Wrapped, run: Run) -> Iterator[Trace]:
    """diffusers' strategy on `denoisers` for one generation; afterwards they are as they were.

    Yields:
        The trace. It has no decisions: modules and their calls are counted.

    Raises:
        RunError: nothing would be hooked. While it runs: the denoiser is called more than once a step, or with a batch
            that FasterCache cannot halve.
    """
    trace = Trace(strategy=cache.name)
    with ExitStack() as stack:
        for denoiser in denoisers:
            trace.attached_to = type(denoiser).__name__
            stack.enter_context(_as_before(denoiser))
            calls = Calls(cache, run, trace)
            calls.whole, calls.modules = _applied(denoiser, cache, calls.timestep)
            if not calls.modules:
                raise RunError(
                    f"cache={cache.name}: {type(denoiser).__name__} has no attention that diffusers' hooks know; "
                    "cache=fbcache, or cache=none"
                )
            trace.modules += len(calls.modules)
            for hook in calls.modules:
                _count(hook, trace)
            handle = denoiser.register_forward_pre_hook(calls.begin, prepend=True, with_kwargs=True)
            stack.callback(handle.remove)
        if not denoisers:
            raise RunError(f"cache={cache.name}: it is not known what this pipeline calls at every step; cache=none")
        yield trace


register("cache", "fastercache", FasterCache)(wrapped)
register("cache", "pab", PyramidAttentionBroadcast)(wrapped)


class Calls:
    """Follows the calls of one denoiser, and refuses those that diffusers' hooks would answer wrongly."""

    def __init__(self, cache: Wrapped, run: Run, trace: Trace) -> None:
        self.cache, self.run, self.trace = cache, run, trace
        self.whole: Any = None
        """FasterCache's hook on the denoiser itself."""
        self.modules: list[Any] = []
        """Hooks on attention modules."""
        self.count, self.step = 0, -1
        self._timesteps: list[float] = []

    def timestep(self) -> float:
        """The training timestep of the call that is going on.

        Pipelines have it as `current_timestep`, on the device, where each hook's comparison would wait for it; and not
        all of them have it. The first call is outside of every range: with one inside, as where an image is started
        from, FasterCache's hooks would look for outputs that there are none of yet.
        """
        if self.count == 1:
            return inf
        self._timesteps = self._timesteps or self.run.timesteps()
        return self._timesteps[self.step]

    def begin(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Runs before the denoiser."""
        if self.step == self.trace.steps:
            raise RunError(
                f"cache={self.cache.name}: this pipeline calls the denoiser once for each guidance branch, and "
                "diffusers' hooks would answer one with the other's attention; turn guidance off (guidance_scale=1), "
                "or take another strategy (cache=fbcache)"
            )
        self.count, self.step = self.count + 1, self.trace.steps
        if self.whole is not None:
            self._settle(args, kwargs)

    def _settle(self, args: Any, kwargs: dict[str, Any]) -> None:
        """Tells FasterCache's hooks whether the rows are guidance's two halves: the unconditional one and behind it the
        other."""
        latents = args[0] if args else next(iter(kwargs.values()))
        rows, images = len(latents), self.run.images
        for hook in (self.whole, *self.modules):
            hook.is_guidance_distilled = rows == images
        if rows == images:
            return
        if latents.ndim == 4:
            self.whole.tensor_format = "BCHW"
        halved = {name for name in self.whole.uncond_cond_input_kwargs_identifiers if name in kwargs}
        batched = {name for name, value in kwargs.items() if getattr(value, "ndim", 0) and len(value) == rows}
        if args or rows != 2 * images or latents.ndim < 4 or batched != halved:
            raise RunError(
                f"cache={self.cache.name}: diffusers cannot halve the batch that this pipeline makes for guidance; "
                "turn guidance off (guidance_scale=1), or take another strategy (cache=fbcache)"
            )


def _applied(denoiser: Any, cache: Wrapped, timestep: Callable[[], float]) -> tuple[Any, list[Any]]:
    """Applies diffusers' strategy. Returns its hook on the denoiser, None for PAB, and those on attention modules."""
    from diffusers import hooks
    from diffusers.hooks import faster_cache as fc
    from diffusers.hooks import pyramid_attention_broadcast as pab

    ours = {one.name for one in fields(CacheConfig)} | {"attention_weight"}
    given = {one.name: getattr(cache, one.name) for one in fields(cache) if one.name not in ours}
    given = {name: value for name, value in given.items() if value is not None or not name.endswith("_identifiers")}
    if isinstance(cache, FasterCache):
        known = hooks.FasterCacheConfig(
            **given,
            attention_weight_callback=lambda module: cache.attention_weight,
            tensor_format="BFCHW" if type(denoiser).__name__ in FRAMES_FIRST else "BCFHW",
            current_timestep_callback=timestep,
        )
        hooks.apply_faster_cache(denoiser, known)
        root = denoiser._diffusers_hook.get_hook(fc._FASTER_CACHE_DENOISER_HOOK)
        return root, _hooks(denoiser, fc._FASTER_CACHE_BLOCK_HOOK)
    hooks.apply_pyramid_attention_broadcast(
        denoiser, hooks.PyramidAttentionBroadcastConfig(**given, current_timestep_callback=timestep)
    )
    return None, _hooks(denoiser, pab._PYRAMID_ATTENTION_BROADCAST_HOOK)


def _hooks(denoiser: Any, name: str) -> list[Any]:
    registries = [vars(module).get("_diffusers_hook") for module in denoiser.modules()]
    found = [registry.get_hook(name) for registry in registries if registry]
    return [hook for hook in found if hook]


def _count(hook: Any, trace: Trace) -> None:
    """Counts calls of the hooked module, and those among them that its own code did not answer."""
    whole, own = hook.fn_ref.forward, hook.fn_ref.original_forward

    def called(*args: Any, **kwargs: Any) -> Any:
        trace.module_calls += 1
        trace.module_hits += 1
        return whole(*args, **kwargs)

    def computed(*args: Any, **kwargs: Any) -> Any:
        trace.module_hits -= 1
        return own(*args, **kwargs)

    hook.fn_ref.forward, hook.fn_ref.original_forward = called, computed


@contextmanager
def _as_before(denoiser: Any) -> Iterator[None]:
    """Afterwards every module has the forward and the hooks that it had."""
    from diffusers.hooks import faster_cache as fc
    from diffusers.hooks import pyramid_attention_broadcast as pab

    names = (fc._FASTER_CACHE_DENOISER_HOOK, fc._FASTER_CACHE_BLOCK_HOOK, pab._PYRAMID_ATTENTION_BROADCAST_HOOK)
    kept = ("forward", "_diffusers_hook")
    modules = list(denoiser.modules())
    had = [{name: vars(module)[name] for name in kept if name in vars(module)} for module in modules]
    try:
        yield
    finally:
        for module, attributes in zip(modules, had, strict=True):
            registry = vars(module).get("_diffusers_hook")
            for name in names if registry else ():
                registry.remove_hook(name, recurse=False)
            for name in kept:
                vars(module).pop(name, None)
            vars(module).update(attributes)
        if "_diffusers_hook" in vars(denoiser):
            denoiser._diffusers_hook.invalidate_child_registries_cache()
