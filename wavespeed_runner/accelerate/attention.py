"""Attention backends: which kernel computes the attention of a pipeline's denoiser.

diffusers' own switch, `set_attention_backend`, also sets the backend of every other model in the process, and does
nothing on models that bypass its dispatcher. Here a backend is set on the processors of one pipeline alone; those that
bypass the dispatcher are wrapped (`attention_routing`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from ..config.schema import AttentionConfig
from ..errors import RunError, format_error
from ..models.family import Family
from ..registry import find_implementation, lookup
from .attention_options import Backend
from .attention_routing import ROUTED, attend_with_dispatcher, calls_torch, route_processor, run_routed
from .memory import denoiser_names

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

WAY_OUT = "use another backend (docs/attention.md), or attention=none"


def identify_attention(attention: AttentionConfig) -> list[str]:
    """What beside the options decides the results of a backend: the version of the package that holds its kernels."""
    from importlib.metadata import packages_distributions, version

    backend = find_implementation("attention", attention)
    if backend is None or not backend.package:
        return []
    names = packages_distributions().get(backend.package, [])
    return [f"attention {name} {version(name)}" for name in sorted(set(names))]


def apply_attention(pipe: DiffusionPipeline, family: Family, attention: AttentionConfig) -> None:
    """Sets the backend on the attention layers of this pipeline's denoisers, and on no others.

    Raises:
        RunError: the backend's package is missing or too old, or the denoisers have no layer that could use it.
    """
    backend: Backend | None = find_implementation("attention", attention)
    if backend is None:
        return
    from diffusers.models.attention_dispatch import AttentionBackendName

    name = AttentionBackendName(backend.dispatch)
    attend = _prepare_backend(attention, backend, name)
    for module in _list_attention(pipe):
        processor = module.processor
        if hasattr(processor, "_attention_backend"):
            processor._attention_backend = name
            if backend.build:  # set to torch's attention, which the wrapper then routes
                module.processor = route_processor(processor, attention.name, attend)
        elif calls_torch(processor):
            module.processor = route_processor(processor, attention.name, attend)
    evidence = collect_evidence(pipe, attention)
    if not evidence or not (evidence["set"] or evidence["wrapped"]):
        raise RunError(
            f"attention={attention.name}: no attention layer of {type(pipe).__name__} can take a backend; "
            "use attention=none"
        )


def _prepare_backend(attention: AttentionConfig, backend: Backend, dispatch: Any) -> Callable[..., Any]:
    """Checks a backend's package as diffusers does, and downloads kernels of the Hub.

    Returns:
        The function that computes the attention of processors that call torch.
    """
    from diffusers.models import attention_dispatch

    try:
        attention_dispatch._check_attention_backend_requirements(dispatch)
        attention_dispatch._maybe_download_kernel_for_backend(dispatch)
        return backend.build(attention) if backend.build else attend_with_dispatcher(dispatch)
    except Exception as error:
        raise RunError(f"attention={attention.name}: {format_error(error)}; {WAY_OUT}") from error


def _list_attention(pipe: DiffusionPipeline) -> list[torch.nn.Module]:
    """All modules of a pipeline's denoisers that have an attention processor."""
    denoisers = [getattr(pipe, name) for name in denoiser_names(pipe)]
    modules = [module for denoiser in denoisers for module in denoiser.modules()]
    return [module for module in modules if callable(getattr(module, "processor", None))]


def collect_evidence(pipe: DiffusionPipeline, attention: AttentionConfig) -> dict[str, Any] | None:
    """Evidence for the record's `engaged.attention`, read from the pipeline's modules. None without a backend.

    Processors by class: `set` to the backend in diffusers' dispatcher, `wrapped` to be routed to it, and `left` as they
    are, because they compute something else (linear attention). The operators that ran are added after the warm-up.
    """
    backend: Backend | None = find_implementation("attention", attention)
    if backend is None:
        return None
    found: dict[str, Counter[str]] = {"set": Counter(), "wrapped": Counter(), "left": Counter()}
    for module in _list_attention(pipe):
        processor = module.processor
        if getattr(processor, ROUTED, None) == attention.name:
            found["wrapped"][type(processor).__mro__[1].__name__] += 1
        elif str(getattr(getattr(processor, "_attention_backend", None), "value", "")) == backend.dispatch:
            found["set"][type(processor).__name__] += 1
        else:
            found["left"][type(processor).__name__] += 1
    return {"backend": attention.name, **{kind: dict(counts) for kind, counts in found.items()}}


def refuse_other_operators(backend_name: str, operators: list[str]) -> None:
    """Raises RunError if another attention operator ran than the backend's: nothing may fall back silently.

    operators: names of the attention operators that the profiler saw in a call of the denoiser.
    """
    backend: Backend = lookup("attention", backend_name).implementation
    others = [name for name in operators if not re.search(backend.operators, name)]
    if others:
        raise RunError(f"attention={backend_name}: the denoiser ran {', '.join(others)} instead; {WAY_OUT}")


@contextmanager
def explain_attention_errors(attention: AttentionConfig) -> Iterator[None]:
    """Turns an error inside the backend into a `RunError` that names it."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        functions = [frame.f_code.co_name for frame, _ in walk_tb(error.__traceback__)]
        is_inside = any(name in functions for name in ("dispatch_attention_fn", run_routed.__name__))
        if attention.name != "none" and is_inside and type(error).__name__ != "OutOfMemoryError":
            raise RunError(
                f"attention={attention.name} does not fit this model or device: {format_error(error)}; {WAY_OUT}"
            ) from error
        raise
