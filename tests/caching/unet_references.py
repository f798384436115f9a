"""U-Net caches by plain forward hooks on diffusers' own walk: everything is computed, then some of it replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def hooks(*handles: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def entering(unet: Any, block: int, layer: int) -> Any:
    """The module whose output enters the layer on the way up that DeepCache calls (block, layer), counted from the
    last one."""
    blocks = list(unet.up_blocks)
    here = blocks[-1 - block]
    index = len(here.resnets) - 1 - layer
    if index > 0:
        return (getattr(here, "attentions", None) or here.resnets)[index - 1]
    return blocks[-2 - block].upsamplers[0] if block + 1 < len(blocks) else unet.mid_block


@contextmanager
def deepcache(unet: Any, *, interval: int, block: int, layer: int) -> Iterator[None]:
    """Every `interval`-th call stores the feature, the others get the stored one."""
    stored: list[Any] = []
    calls = iter(range(10**6))

    def hook(module: Any, args: Any, out: Any) -> Any:
        if next(calls) % interval == 0:
            stored[:] = [out]
        return stored[0]

    with hooks(entering(unet, block, layer).register_forward_hook(hook)):
        yield


@contextmanager
def first_block_cache(unet: Any, reuse: Callable[[int, float | None], bool]) -> Iterator[list[bool]]:
    """What lies behind the first resnet and its attention is replaced by its residual, where `reuse` says so.

    reuse: (call, mean|r - r_c| / mean|r_c| of the first layer's residual r, None at the first call) -> whether.
    Yields, filled while it runs: for each call, whether it was computed.
    """
    first = unet.down_blocks[0]
    layer = (getattr(first, "attentions", None) or first.resnets)[0]
    state: dict[str, torch.Tensor] = {}
    computed: list[bool] = []

    def begin(module: Any, args: Any, out: Any) -> None:
        state["before"] = out

    def look(module: Any, args: Any, out: Any) -> None:
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

    with hooks(
        unet.conv_in.register_forward_hook(begin),
        layer.register_forward_hook(look),
        unet.conv_norm_out.register_forward_pre_hook(end),
    ):
        yield computed
