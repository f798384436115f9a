"""Attaches strategies that diffusers implements itself: FasterCache and Pyramid Attention Broadcast (PAB).

They hook attention modules, not blocks, and skip by a fixed schedule over the training timesteps, so they have no
signal, criterion, predictor or window. Added here is what diffusers leaves to its caller: the timestep, without waiting
for the device; fresh state for every generation, also after one that failed; errors for what cannot work; and counts of
what was skipped.

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
from ..state import GenerationInfo
from ..trace import Trace
from .diffusers_options import DiffusersHookOptions, FasterCache, PyramidAttentionBroadcast

if TYPE_CHECKING:
    import torch

FRAMES_FIRST = ("CogVideoXTransformer3DModel",)
"""Video denoisers whose input is (n, frames, channels, h, w)."""


@contextmanager
def attach_diffusers_hooks(
    denoisers: Sequence[torch.nn.Module], cache: DiffusersHookOptions, generation: GenerationInfo
) -> Iterator[Trace]:
    """Keeps diffusers' strategy attached to `denoisers` for one generation; afterwards they are as they were.

    Args:
        denoisers: the modules that the pipeline calls at every step.
        cache: the strategy.
        generation: what strategies are told about the generation.

    Yields:
        The trace. It has no decisions; hooked modules and their calls are counted.

    Raises:
        RunError: nothing would be hooked. While it runs: the denoiser is called more than once a step, or with a batch
            that FasterCache cannot halve.
    """
    check_denoisers(denoisers, cache)
    trace = Trace(strategy=cache.title)
    with ExitStack() as stack:
        for denoiser in denoisers:
            trace.attached_to = type(denoiser).__name__
            stack.enter_context(_restore_hooks(denoiser))
            calls = CallTracker(cache, generation, trace)
            calls.denoiser_hook, calls.module_hooks = _apply_hooks(denoiser, cache, calls.find_timestep)
            if not calls.module_hooks:
                raise RunError(
                    f"cache={cache.title}: {type(denoiser).__name__} has no attention modules that diffusers' hooks "
                    "know; use cache=fbcache, or cache=none"
                )
            trace.modules += len(calls.module_hooks)
            for hook in calls.module_hooks:
                _count_calls(hook, trace)
            handle = denoiser.register_forward_pre_hook(calls.begin_call, prepend=True, with_kwargs=True)
            stack.callback(handle.remove)
        yield trace


register("cache", "fastercache", FasterCache)(attach_diffusers_hooks)
register("cache", "pab", PyramidAttentionBroadcast)(attach_diffusers_hooks)


def check_denoisers(denoisers: Sequence[torch.nn.Module], cache: CacheConfig) -> None:
    """Raises `RunError` if there is no denoiser to attach to."""
    if not denoisers:
        raise RunError(
            f"cache={cache.title}: cannot attach, because it is not known which module this pipeline calls at every "
            "step; use cache=none"
        )


class CallTracker:
    """Follows the calls of one denoiser, and refuses those that diffusers' hooks would answer wrongly."""

    def __init__(self, cache: DiffusersHookOptions, generation: GenerationInfo, trace: Trace) -> None:
        """Nothing is hooked yet."""
        self.cache, self.generation, self.trace = cache, generation, trace
        self.denoiser_hook: Any = None
        """FasterCache's hook on the denoiser itself."""
        self.module_hooks: list[Any] = []
        """Hooks on attention modules."""
        self.count, self.step = 0, -1
        self._timesteps: list[float] = []

    def find_timestep(self) -> float:
        """The training timestep of the call in progress, which diffusers' hooks compare with their ranges.

        Pipelines have it as `current_timestep`, but not all of them, and on the device, where each hook's comparison
        would wait for it. The first call gets infinity, which is outside every range: if it were inside, as where a
        generation starts from an image, FasterCache's hooks would look for cached outputs that do not exist yet.
        """
        if self.count == 1:
            return inf
        self._timesteps = self._timesteps or self.generation.timesteps()
        return self._timesteps[self.step]

    def begin_call(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the denoiser."""
        if self.step == self.trace.steps:
            raise RunError(
                f"cache={self.cache.title}: this pipeline calls the denoiser once for each guidance branch, and "
                "diffusers' hooks would reuse one branch's attention for the other; turn guidance off "
                "(guidance_scale=1), or use another strategy (cache=fbcache)"
            )
        self.count, self.step = self.count + 1, self.trace.steps
        if self.denoiser_hook is not None:
            self._set_batch_layout(args, kwargs)

    def _set_batch_layout(self, args: Any, kwargs: dict[str, Any]) -> None:
        """Tells FasterCache's hooks whether the batch is guidance's two halves, the unconditional one first."""
        latents = args[0] if args else next(iter(kwargs.values()))
        rows, images = len(latents), self.generation.images
        for hook in (self.denoiser_hook, *self.module_hooks):
            hook.is_guidance_distilled = rows == images
        if rows == images:
            return
        if latents.ndim == 4:
            self.denoiser_hook.tensor_format = "BCHW"
        halved = {name for name in self.denoiser_hook.uncond_cond_input_kwargs_identifiers if name in kwargs}
        batched = {name for name, value in kwargs.items() if getattr(value, "ndim", 0) and len(value) == rows}
        if args or rows != 2 * images or latents.ndim < 4 or batched != halved:
            raise RunError(
                f"cache={self.cache.title}: diffusers cannot halve the batch that this pipeline makes for guidance; "
                "turn guidance off (guidance_scale=1), or use another strategy (cache=fbcache)"
            )


def _apply_hooks(denoiser: Any, cache: DiffusersHookOptions, timestep: Callable[[], float]) -> tuple[Any, list[Any]]:
    """Applies diffusers' strategy. Returns its hook on the denoiser, None for PAB, and those on attention modules."""
    from diffusers import hooks
    from diffusers.hooks import faster_cache as fc
    from diffusers.hooks import pyramid_attention_broadcast as pab

    options = select_options(cache)
    if isinstance(cache, FasterCache):
        config = hooks.FasterCacheConfig(
            **options,
            attention_weight_callback=lambda module: cache.attention_weight,
            tensor_format="BFCHW" if type(denoiser).__name__ in FRAMES_FIRST else "BCFHW",
            current_timestep_callback=timestep,
        )
        hooks.apply_faster_cache(denoiser, config)
        denoiser_hook = denoiser._diffusers_hook.get_hook(fc._FASTER_CACHE_DENOISER_HOOK)
        return denoiser_hook, _find_hooks(denoiser, fc._FASTER_CACHE_BLOCK_HOOK)
    hooks.apply_pyramid_attention_broadcast(
        denoiser, hooks.PyramidAttentionBroadcastConfig(**options, current_timestep_callback=timestep)
    )
    return None, _find_hooks(denoiser, pab._PYRAMID_ATTENTION_BROADCAST_HOOK)


def select_options(cache: DiffusersHookOptions) -> dict[str, Any]:
    """The options that diffusers' configuration has under the same names."""
    not_theirs = {option.name for option in fields(CacheConfig)} | {"attention_weight"}
    options = {option.name: getattr(cache, option.name) for option in fields(cache) if option.name not in not_theirs}
    return {name: value for name, value in options.items() if value is not None or not name.endswith("_identifiers")}


def _find_hooks(denoiser: torch.nn.Module, name: str) -> list[Any]:
    registries = [vars(module).get("_diffusers_hook") for module in denoiser.modules()]
    hooks = [registry.get_hook(name) for registry in registries if registry]
    return [hook for hook in hooks if hook]


def _count_calls(hook: Any, trace: Trace) -> None:
    """Counts calls of the hooked module, and those among them that its own code did not answer."""
    hooked, original = hook.fn_ref.forward, hook.fn_ref.original_forward

    def count_call(*args: Any, **kwargs: Any) -> Any:
        trace.module_calls += 1
        trace.module_hits += 1
        return hooked(*args, **kwargs)

    def count_computed(*args: Any, **kwargs: Any) -> Any:
        trace.module_hits -= 1
        return original(*args, **kwargs)

    hook.fn_ref.forward, hook.fn_ref.original_forward = count_call, count_computed


@contextmanager
def _restore_hooks(denoiser: torch.nn.Module) -> Iterator[None]:
    """Afterwards every module has the forward and the hooks that it had before."""
    from diffusers.hooks import faster_cache as fc
    from diffusers.hooks import pyramid_attention_broadcast as pab

    names = (fc._FASTER_CACHE_DENOISER_HOOK, fc._FASTER_CACHE_BLOCK_HOOK, pab._PYRAMID_ATTENTION_BROADCAST_HOOK)
    saved_names = ("forward", "_diffusers_hook")
    modules = list(denoiser.modules())
    saved = [{name: vars(module)[name] for name in saved_names if name in vars(module)} for module in modules]
    try:
        yield
    finally:
        for module, attributes in zip(modules, saved, strict=True):
            if registry := vars(module).get("_diffusers_hook"):
                for name in names:
                    registry.remove_hook(name, recurse=False)
            for name in saved_names:
                vars(module).pop(name, None)
            vars(module).update(attributes)
        if denoiser_registry := vars(denoiser).get("_diffusers_hook"):
            denoiser_registry.invalidate_child_registries_cache()
