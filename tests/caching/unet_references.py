"""U-Net caches by plain forward hooks on diffusers' own code: everything is computed, then some of it replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def remove_afterwards(*handles: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def find_cached_module(unet: Any, block: int, layer: int) -> Any:
    """The module whose output DeepCache stores: it enters the layer on the way up that DeepCache calls (block, layer).

    Both are counted from the last one.
    """
    blocks = list(unet.up_blocks)
    up_block = blocks[-1 - block]
    index = len(up_block.resnets) - 1 - layer
    if index > 0:
        return (getattr(up_block, "attentions", None) or up_block.resnets)[index - 1]
    return blocks[-2 - block].upsamplers[0] if block + 1 < len(blocks) else unet.mid_block


@contextmanager
def deepcache(unet: Any, *, interval: int, block: int, layer: int) -> Iterator[None]:
    """DeepCache: every `interval`-th call stores the feature, the others get the stored one."""
    stored: list[Any] = []
    calls = iter(range(10**6))

    def hook(module: Any, args: Any, out: Any) -> Any:
        if next(calls) % interval == 0:
            stored[:] = [out]
        return stored[0]

    with remove_afterwards(find_cached_module(unet, block, layer).register_forward_hook(hook)):
        yield


@contextmanager
def first_block_cache(unet: Any, reuse: Callable[[int, float | None], bool]) -> Iterator[list[bool]]:
    """First Block Cache: the layers after the first resnet and its attention are replaced by their stored residual.

    Args:
        unet: the U-Net.
        reuse: (call, mean|r - r_c| / mean|r_c| of the first layer's residual r, None at the first call) -> whether to.

    Yields:
        For each call, whether it was computed; filled while it runs.
    """
    first = unet.down_blocks[0]
    layer = (getattr(first, "attentions", None) or first.resnets)[0]
    state: dict[str, torch.Tensor] = {}
    computed: list[bool] = []

    def begin(module: Any, args: Any, out: Any) -> None:
        state["before"] = out

    def end_first(module: Any, args: Any, out: Any) -> None:
        state["after"] = out[0] if isinstance(out, tuple) else out

    def end(module: Any, args: Any) -> Any:
        (final,) = args
        residual = state["after"] - state["before"]
        change = None
        if "last" in state:
            change = ((residual - state["last"]).abs().mean() / state["last"].abs().mean()).item()
        skip = change is not None and reuse(len(computed), change)
        computed.append(not skip)
        if skip:
            return (state["after"] + state["rest"],)
        state["last"], state["rest"] = residual, final - state["after"]
        return (final,)

    with remove_afterwards(
        unet.conv_in.register_forward_hook(begin),
        layer.register_forward_hook(end_first),
        unet.conv_norm_out.register_forward_pre_hook(end),
    ):
        yield computed
