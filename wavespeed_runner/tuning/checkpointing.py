"""Gradients through many evaluations in little memory: only what goes into each block is kept, the rest is made again.

Not with diffusers' `enable_gradient_checkpointing`, which wraps whatever is called in a block's place: with a cache
attached that is the cache's decision, which must not be made a second time when a block is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from ..caching.attach.unet_layers import list_layers
from ..models.family import Blocks, UNetBlocks

if TYPE_CHECKING:
    import torch
    from torch import nn


@contextmanager
def checkpoint_blocks(denoisers: Sequence[nn.Module], blocks: Blocks | UNetBlocks | None) -> Iterator[None]:
    """Keeps the inputs of the denoisers' blocks for the derivative, and computes what is inside of them again."""
    modules = [module for denoiser in denoisers for module in list_blocks(denoiser, blocks)]
    originals = [module.__dict__.get("forward") for module in modules]
    for module in modules:
        module.forward = _checkpoint(module.forward)
    try:
        yield
    finally:
        for module, original in zip(modules, originals, strict=True):
            del module.forward
            if original is not None:  # as accelerate's hooks leave it
                module.forward = original


def _checkpoint(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, computed again for its derivative. Its signature stays: caches read it."""
    from torch.utils.checkpoint import checkpoint

    @wraps(forward)
    def compute_again(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return compute_again


def list_blocks(denoiser: nn.Module, blocks: Blocks | UNetBlocks | None) -> list[Any]:
    """The modules of a denoiser that are computed again; none where its blocks are not known."""
    if isinstance(blocks, UNetBlocks):
        layers = list_layers(denoiser)
        return [m for layer in layers for m in (layer.resnet, layer.attention, *layer.resamplers) if m is not None]
    return [block for part in (blocks.lists if blocks else ()) for block in getattr(denoiser, part.name, ())]


@contextmanager
def count_inputs(denoisers: Sequence[nn.Module], blocks: Blocks | UNetBlocks | None) -> Iterator[list[int]]:
    """Yields a list that is filled with the bytes of each tensor that goes into a block, once a denoiser's call."""
    counted: list[int] = []
    seen: set[int] = set()
    kept: list[torch.Tensor] = []

    def count(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        values = [*args, *kwargs.values()]
        for tensor in [one for value in values for one in (value if isinstance(value, tuple) else (value,))]:
            if hasattr(tensor, "element_size") and id(tensor) not in seen:
                seen.add(id(tensor))
                kept.append(tensor)  # so that its id is not given to another one
                counted.append(tensor.numel() * tensor.element_size())

    def forget(module: Any, args: Any) -> None:
        seen.clear()
        kept.clear()

    handles = [denoiser.register_forward_pre_hook(forget) for denoiser in denoisers]
    for denoiser in denoisers:
        for module in list_blocks(denoiser, blocks):
            handles.append(module.register_forward_pre_hook(count, with_kwargs=True))
    try:
        yield counted
    finally:
        for handle in handles:
            handle.remove()
