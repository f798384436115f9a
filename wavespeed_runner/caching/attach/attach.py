"""Puts a cache strategy on a pipeline's denoisers for one generation, and takes it off again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ...config.schema import CacheConfig
from ...errors import RunError
from ...models.family import Blocks, UNetBlocks
from ...registry import find_implementation
from ..engine import Engine
from ..means import add_up_over_ranks
from ..state import GenerationInfo, Observer
from ..trace import Trace
from ..window import count_head_blocks
from .diffusers_hooks import check_denoisers
from .diffusers_options import DiffusersHookOptions
from .transformer import attach_to_transformer
from .unet import attach_to_unet
from .unet_layers import count_always_run, list_layers

if TYPE_CHECKING:
    import torch


@contextmanager
def attach_strategy(
    denoisers: Sequence[torch.nn.Module],
    blocks: Blocks | UNetBlocks | None,
    cache: CacheConfig,
    generation: GenerationInfo,
    *,
    observer: Observer | None = None,
) -> Iterator[Trace]:
    """Keeps a cache strategy attached to denoisers for one generation, with fresh state.

    Args:
        denoisers: the modules that the pipeline calls at every step: one, or two of which each step calls one. Empty
            if that is not known.
        blocks: where they keep what can be skipped; None if a strategy cannot attach.
        cache: the strategy; `none` attaches nothing.
        generation: what strategies are told about it.
        observer: watches computed calls.

    Yields:
        The trace, filled while the generation runs.

    Raises:
        RunError: the strategy would attach to nothing.
    """
    if cache.name == "none":
        yield Trace(strategy=cache.title)
        return
    if isinstance(cache, DiffusersHookOptions):
        with find_implementation("cache", cache)(denoisers, cache, generation) as trace:
            yield trace
        return
    check_denoisers(denoisers, cache)
    trace = Trace(strategy=cache.title)
    engine = Engine(cache=cache, generation=generation, trace=trace, observer=observer)
    with ExitStack() as stack:
        stack.callback(engine.release_tensors)
        stack.enter_context(add_up_over_ranks(generation.add_up))
        for denoiser in denoisers:
            stack.enter_context(_attach_engine(engine, denoiser, blocks))
            if engine.needs_model_io:
                stack.enter_context(_watch_model_io(engine, denoiser))
        yield trace


def _attach_engine(
    engine: Engine, denoiser: torch.nn.Module, blocks: Blocks | UNetBlocks | None
) -> AbstractContextManager[None]:
    """Attaches the engine to one denoiser, and writes into the trace to what."""
    cache, head = engine.cache, count_head_blocks(engine.cache)
    count, always = _count_blocks(denoiser, blocks), _count_always_run(blocks, cache)
    if blocks is None or count <= always:
        keys = f"cache.signal.blocks={head}, cache.tail_blocks={cache.tail_blocks}, cache.depth={cache.depth}"
        raise RunError(
            f"cache={cache.title}: {type(denoiser).__name__} has {count} blocks and {always} of them would always run "
            f"({keys}), so nothing is left to skip; lower these keys, or use cache=none"
        )
    trace = engine.trace
    trace.attached_to, trace.blocks, trace.always = type(denoiser).__name__, count, always
    if isinstance(blocks, UNetBlocks):
        return attach_to_unet(engine, denoiser, head=head, depth=cache.depth)
    return attach_to_transformer(engine, denoiser, blocks, head=head, tail=cache.tail_blocks)


def _count_blocks(denoiser: torch.nn.Module, blocks: Blocks | UNetBlocks | None) -> int:
    if isinstance(blocks, UNetBlocks):
        return len(list_layers(denoiser))
    return sum(len(getattr(denoiser, block_list.name, ())) for block_list in blocks.lists) if blocks else 0


def _count_always_run(blocks: Blocks | UNetBlocks | None, cache: CacheConfig) -> int:
    head = count_head_blocks(cache)
    if isinstance(blocks, UNetBlocks):
        return count_always_run(head=head, depth=cache.depth)
    return head + cache.tail_blocks


@contextmanager
def _watch_model_io(engine: Engine, denoiser: torch.nn.Module) -> Iterator[None]:
    """Shows the engine the denoiser's input and output while the context is open: those of the image that is made."""
    own = engine.generation.own_tokens

    def before(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        engine.latents = _stack_batch(args[0] if args else next(iter(kwargs.values())))[:, :own]

    def after(module: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        engine.record_output(_stack_batch(out[0] if isinstance(out, tuple) else out.sample)[:, :own])

    handles = [
        denoiser.register_forward_pre_hook(before, with_kwargs=True),
        denoiser.register_forward_hook(after, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _stack_batch(value: Any) -> Any:
    """A batch as one tensor. Z-Image takes and returns lists of images."""
    if isinstance(value, list):
        import torch

        return torch.stack(value)
    return value
