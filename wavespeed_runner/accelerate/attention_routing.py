"""Routes the attention of processors that call torch themselves to another function.

Half of diffusers' attention processors (those of U-Nets, Stable Diffusion 3, CogVideoX, HiDream and others) call
`torch.nn.functional.scaled_dot_product_attention` instead of diffusers' dispatcher, so no backend can be set on them.
Such a processor is replaced by one of a subclass that runs the original under a torch function mode, which hands that
one call to another function. torch.compile traces the mode, without a graph break.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from functools import lru_cache
from typing import Any

ROUTED = "_routed_attention"
"""Attribute of a wrapped processor: the name of the backend that its attention goes to."""


def calls_torch(processor: Any) -> bool:
    """True if a processor calls torch's attention itself."""
    return "scaled_dot_product_attention" in type(processor).__call__.__code__.co_names


def route_processor(processor: Any, backend: str, attend: Callable[..., Any]) -> Any:
    """A copy of a processor whose attention is computed by another function; the processor itself stays as it is.

    Args:
        processor: an attention processor of diffusers.
        backend: name of the backend, kept in `ROUTED`.
        attend: takes the arguments of `torch.nn.functional.scaled_dot_product_attention`.
    """
    routed = copy.copy(processor)
    original: Any = type(processor)
    routed.__class__ = _route_class(original, attend)
    setattr(routed, ROUTED, backend)
    routed.original, routed.attend = processor, attend
    return routed


@lru_cache(maxsize=64)
def _route_class(original: type[Any], attend: Callable[..., Any]) -> type[Any]:
    """The subclass of a processor's class. One for all processors: torch.compile makes a graph for each class."""
    mode = _mode_class()
    run = original.__call__

    # The signature counts: diffusers passes only the keyword arguments that it finds there.
    @functools.wraps(run)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with mode(attend):
            return run(self, *args, **kwargs)

    return type(f"Routed{original.__name__}", (original,), {"__call__": call})


@lru_cache(maxsize=1)
def _mode_class() -> Any:
    """The torch function mode; a class of its own in a function, because planning must not import torch."""
    from torch.nn.functional import scaled_dot_product_attention
    from torch.overrides import TorchFunctionMode

    class RouteAttention(TorchFunctionMode):
        def __init__(self, attend: Callable[..., Any]) -> None:
            super().__init__()
            self.attend = attend

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is scaled_dot_product_attention:
                return run_routed(self.attend, args, kwargs or {})
            return function(*args, **(kwargs or {}))

    return RouteAttention


def run_routed(attend: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Calls the function that attention is routed to. In the traceback of an error, it shows where that came from."""
    return attend(*args, **kwargs)


@lru_cache(maxsize=64)
def attend_with_dispatcher(backend: Any) -> Callable[..., Any]:
    """A function with the parameters of torch's attention that diffusers' dispatcher computes with a backend.

    backend: a member of diffusers' `AttentionBackendName`.
    """
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    def attend(query: Any, key: Any, value: Any, attn_mask: Any = None, *args: Any, **kwargs: Any) -> Any:
        if attn_mask is not None and attn_mask.ndim == 2:
            # The dispatcher would take a mask of queries and keys for one of batch and keys.
            attn_mask = attn_mask[None, None]
        # The dispatcher has the tokens before the heads, torch has them after.
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        result = dispatch_attention_fn(query, key, value, attn_mask, *args, **kwargs, backend=backend)
        return result.transpose(1, 2)

    return attend
