"""Puts a cache strategy on a denoiser for one generation, and takes it off again.

How: the denoiser's block lists are swapped for one `BlockStack` that holds the same blocks. It runs the head blocks,
asks the strategy, and runs the rest or adds the predicted residual. Nothing is patched: not a class, not a forward,
not a block; taking the strategy off puts the original lists back.

Why not `diffusers.hooks.apply_first_block_cache`, which makes the same decisions (the tests hold us to that): its
hooks know one threshold and neither window nor hit limit, keep no trace, walk all skipped blocks in Python, and keep
their state when a step raises. What diffusers has for guidance branches, cache contexts, is used here as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from math import isfinite
from typing import TYPE_CHECKING, Any

from ..config import CacheConfig
from ..errors import RunError
from ..models.family import Blocks
from ..registry import implementation_of
from .criteria import Criterion
from .predictors import Predictor
from .trace import Decision, Trace
from .window import allows

if TYPE_CHECKING:
    import torch


class Branch:
    """Strategy state of one guidance branch of one generation."""

    def __init__(self, cache: CacheConfig) -> None:
        self.step = 0
        self.consecutive_hits = 0
        self.criterion: Criterion = implementation_of("cache/criterion", cache.criterion)(cache.criterion)
        self.predictor: Predictor = implementation_of("cache/predictor", cache.predictor)(cache.predictor)

    def reset(self) -> None:
        """diffusers' state manager calls this, then drops the branch."""


@contextmanager
def attached(
    denoiser: torch.nn.Module | None, blocks: Blocks | None, cache: CacheConfig, *, steps: Callable[[], int]
) -> Iterator[Trace]:
    """The strategy on `denoiser` for one generation, with clean state.

    Args:
        denoiser: the module that the pipeline calls every step; None where that is not known.
        blocks: where it keeps its blocks; None when a block cache cannot attach.
        cache: the strategy; `none` attaches nothing.
        steps: how many steps the generation has; asked for when the denoiser is called, because a pipeline that starts
            from a picture settles it late.

    Yields:
        The trace, filled while the generation runs.

    Raises:
        RunError: the strategy would attach to nothing.
    """
    trace = Trace(strategy=cache.name)
    if cache.name == "none":
        yield trace
        return
    modules = [block for name in (blocks.lists if blocks else ()) for block in getattr(denoiser, name, ())]
    head = cache.signal.blocks  # type: ignore[union-attr]
    if denoiser is None or blocks is None or len(modules) <= head:
        raise RunError(
            f"cache={cache.name}: {type(denoiser).__name__} has no blocks to skip behind the first "
            f"cache.signal.blocks={head}; use fewer, or cache=none"
        )
    lists = {name: getattr(denoiser, name) for name in blocks.lists}
    trace.attached_to, trace.blocks, trace.head_blocks = type(denoiser).__name__, len(modules), head
    stack = _block_stack(modules, blocks, cache, steps, trace)
    try:
        _swap(denoiser, {name: [stack] if name == blocks.lists[0] else [] for name in blocks.lists})
        yield trace
    finally:
        for name, original in lists.items():
            setattr(denoiser, name, original)
        _forget_child_hooks(denoiser)


def _swap(denoiser: torch.nn.Module, lists: dict[str, list[torch.nn.Module]]) -> None:
    from torch.nn import ModuleList

    for name, modules in lists.items():
        setattr(denoiser, name, ModuleList(modules))
    _forget_child_hooks(denoiser)


def _forget_child_hooks(denoiser: torch.nn.Module) -> None:
    """The denoiser's hook registry remembers which children take part in cache contexts: make it look again."""
    registry: Any = getattr(denoiser, "_diffusers_hook", None)
    if registry is not None:
        registry.invalidate_child_registries_cache()


def _block_stack(
    modules: list[torch.nn.Module], blocks: Blocks, cache: CacheConfig, steps: Callable[[], int], trace: Trace
) -> torch.nn.Module:
    """The module that stands in for all blocks. Defined here because torch is imported late."""
    import torch
    from diffusers.hooks import HookRegistry, ModelHook
    from diffusers.hooks.hooks import StateManager

    measure = implementation_of("cache/signal", cache.signal)
    parameters = list(signature(modules[0].forward).parameters)
    unnamed: dict[str, Branch] = {}
    streams = [blocks.hidden, *([blocks.encoder] if blocks.encoder else [])]

    class Contexts(ModelHook):
        """Lets `denoiser.cache_context("cond")` reach our states, and the pipeline's own reset too."""

        _is_stateful = True

        def __init__(self, states: StateManager) -> None:
            super().__init__()
            self.states = states

        def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
            self.states.reset()
            return module

    class BlockStack(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.ModuleList(modules[: trace.head_blocks])
            self.rest = torch.nn.ModuleList(modules[trace.head_blocks :])
            self.states = StateManager(Branch, (cache,))
            HookRegistry.check_if_exists_or_initialize(self).register_hook(Contexts(self.states), "wavespeed_contexts")

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            kwargs.update(zip(parameters, args, strict=False))
            state = {name: kwargs.pop(name) for name in streams}
            after_head = self._run(self.head, state, kwargs)
            branch, name = self._branch()
            signal = measure(state[blocks.hidden], after_head[blocks.hidden])
            value = branch.criterion.value(signal)
            if value is not None and not isfinite(value):
                value = None  # 0 / 0: nothing to compare with; and JSON has no NaN
            skip = (
                value is not None
                and allows(cache, branch.step, steps(), branch.consecutive_hits)
                and branch.criterion.reuse(value)
            )
            if skip:
                residual = branch.predictor.predict(branch.step)
                result = {key: residual[key] + after_head[key] for key in blocks.returns}
            else:
                result = self._run(self.rest, after_head, kwargs)
                residual = {key: result[key] - after_head[key] for key in blocks.returns}
                branch.criterion.computed(signal)
                branch.predictor.computed(branch.step, residual)
            trace.decisions.append(Decision(step=branch.step, branch=name, computed=not skip, signal=value))
            branch.consecutive_hits = branch.consecutive_hits + 1 if skip else 0
            branch.step += 1
            out = tuple(result[key] for key in blocks.returns)
            return out if len(out) > 1 else out[0]

        def _run(self, part: torch.nn.ModuleList, state: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
            for block in part:
                out = block(**state, **rest)
                state = {**state, **dict(zip(blocks.returns, out if isinstance(out, tuple) else (out,), strict=True))}
            return state

        def _branch(self) -> tuple[Branch, str]:
            """State of the guidance branch that the pipeline is in. Many pipelines open no context for their branches:
            there, the first call of each step is one branch, the second another."""
            try:
                return self.states.get_state(), self.states.context.name
            except ValueError:
                name = f"call {trace.calls}"
                trace.calls += 1
                return unnamed.setdefault(name, Branch(cache)), name

    return BlockStack()
