"""Puts a cache strategy on a pipeline's denoisers for one generation, and takes it off again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ...config.schema import CacheConfig
from ...errors import RunError
from ...models.family import Blocks, UNetBlocks
from ...registry import implementation_of
from ..engine import Engine, Observer, Run
from ..trace import Trace
from ..window import head_blocks
from .diffusers_options import Wrapped

if TYPE_CHECKING:
    import torch


@contextmanager
def attached(
    denoisers: Sequence[torch.nn.Module],
    blocks: Blocks | UNetBlocks | None,
    cache: CacheConfig,
    run: Run,
    *,
    observer: Observer | None = None,
) -> Iterator[Trace]:
    """The strategy on `denoisers` for one generation, with clean state.

    Args:
        denoisers: the modules that the pipeline calls every step: one, or two of which each step calls one. Empty where
            that is not known.
        blocks: where they keep what can be skipped; None when a strategy cannot attach.
        cache: the strategy; `none` attaches nothing.
        run: the generation.
        observer: looks on at computed calls.

    Yields:
        The trace, filled while the generation runs.

    Raises:
        RunError: the strategy would attach to nothing.
    """
    if cache.name == "none":
        yield Trace(strategy=cache.name)
        return
    if isinstance(cache, Wrapped):
        with implementation_of("cache", cache)(denoisers, cache, run) as trace:
            yield trace
        return
    trace = Trace(strategy=cache.name)
    head, tail = head_blocks(cache), cache.tail_blocks
    engine = Engine(cache=cache, run=run, trace=trace, observer=observer)
    with ExitStack() as stack:
        stack.callback(engine.forget)
        for denoiser in denoisers:
            count = _count(denoiser, blocks)
            always = _always(blocks, cache.depth, head=head, tail=tail)
            if blocks is None or count <= always:
                of = f"cache.signal.blocks={head}, cache.tail_blocks={tail}, cache.depth={cache.depth}"
                raise RunError(
                    f"cache={cache.name}: {type(denoiser).__name__} has {count} blocks, and {always} of them would "
                    f"always run ({of}): nothing is left to skip; use less, or cache=none"
                )
            trace.attached_to, trace.blocks, trace.always = type(denoiser).__name__, count, always
            stack.enter_context(_on_one(engine, denoiser, blocks, head=head, tail=tail))
            if engine.looks_at_model:
                stack.enter_context(_looking(engine, denoiser))
        if not denoisers:
            raise RunError(f"cache={cache.name}: it is not known what this pipeline calls at every step; cache=none")
        yield trace


def _count(denoiser: Any, blocks: Blocks | UNetBlocks | None) -> int:
    if isinstance(blocks, UNetBlocks):
        from .unet import layers

        return len(layers(denoiser))
    return sum(len(getattr(denoiser, one.name, ())) for one in blocks.lists) if blocks else 0


def _always(blocks: Blocks | UNetBlocks | None, depth: int | None, *, head: int, tail: int) -> int:
    if isinstance(blocks, UNetBlocks):
        from .unet import always

        return always(head=head, depth=depth)
    return head + tail


def _on_one(engine: Engine, denoiser: Any, blocks: Blocks | UNetBlocks, *, head: int, tail: int) -> Any:
    if isinstance(blocks, UNetBlocks):
        from .unet import attached_to_unet

        return attached_to_unet(engine, denoiser, head=head, depth=engine.cache.depth)
    from .transformer import attached_to_blocks

    return attached_to_blocks(engine, denoiser, blocks, head=head, tail=tail)


@contextmanager
def _looking(engine: Engine, denoiser: torch.nn.Module) -> Iterator[None]:
    """The engine also sees what goes into the denoiser and what comes out."""

    def before(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        engine.latents = _tensor(args[0] if args else next(iter(kwargs.values())))

    def after(module: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        engine.gave(_tensor(out[0] if isinstance(out, tuple) else out.sample))

    handles = [
        denoiser.register_forward_pre_hook(before, with_kwargs=True),
        denoiser.register_forward_hook(after, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensor(value: Any) -> Any:
    """A batch; Z-Image takes and gives lists of images."""
    if isinstance(value, list):
        import torch

        return torch.stack(value)
    return value
