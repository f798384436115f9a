"""Evidence of the kernels that ran: one call of the denoiser under torch's profiler, repeated after the warm-up.

Configurations say what should run; only the profiler sees what did. Attention operators are sorted by the lengths of
their queries and keys: equal lengths are self attention (joint attention of text and image included), others cross
attention. A kernel that torch.compile has fused into one of its own on the CPU has no name of its own and is not seen;
on a GPU the kernels themselves are listed too.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .attention import refuse_other_operators

if TYPE_CHECKING:
    import torch

Example = tuple[Any, tuple[Any, ...], dict[str, Any]]
"""A denoiser, and the arguments of one of its calls."""

ATTENTION = re.compile(
    r"::_scaled_dot_product_\w*attention|flash_attn|flash_fwd|::_flash_attention|memory_efficient|efficient_attention"
    r"|sageattention|spas_sage|fusion_attention|flex_attention"
)
"""Operators that compute attention."""
INSIDE = re.compile(r"^aten::_(flash|efficient|cudnn)_attention_forward")
"""Operators that one of the others calls."""
MATMUL = re.compile(
    r"^aten::_?(add|badd)?b?mm$|^aten::_addmm_activation$|_int_mm|_scaled_mm|_scaled_grouped_mm|int8pack_mm|int4pack_mm"
    r"|linear_pointwise|qlinear|_mkl_linear|::.*gemm"
)
"""Operators that multiply matrices."""
DEVICE_KERNELS = {
    "attention_kernels": re.compile(r"attention|attn|fmha|flash", re.IGNORECASE),
    "matmul_kernels": re.compile(r"gemm|cutlass|nvjet|cublas|_mm_|matmul", re.IGNORECASE),
}
"""Kernels of a GPU, which the profiler sees by the names that their authors gave them."""


@contextmanager
def record_examples(denoisers: Sequence[torch.nn.Module]) -> Iterator[list[Example]]:
    """Records the arguments of the first call of each denoiser while the context is open; leaves nothing behind."""
    examples: list[Example] = []
    undo: list[Callable[[], Any]] = []

    def record(denoiser: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not any(seen is denoiser for seen, _, _ in examples):
            examples.append((denoiser, args, kwargs))

    for denoiser in denoisers:
        undo.append(_record_compiled(denoiser, record) or _record_eager(denoiser, record))
    try:
        yield examples
    finally:
        for restore in undo:
            restore()


def _record_eager(denoiser: torch.nn.Module, record: Callable[..., None]) -> Callable[[], Any]:
    return denoiser.register_forward_pre_hook(record, with_kwargs=True).remove


def _record_compiled(denoiser: torch.nn.Module, record: Callable[..., None]) -> Callable[[], Any] | None:
    """Records the calls of a module that is compiled whole, outside of its graph: a hook would recompile it."""
    compiled = getattr(denoiser, "_compiled_call_impl", None)
    if compiled is None:
        return None

    def call(*args: Any, **kwargs: Any) -> Any:
        record(denoiser, args, kwargs)
        return compiled(*args, **kwargs)

    denoiser._compiled_call_impl = call

    def restore() -> None:
        denoiser._compiled_call_impl = compiled

    return restore


def profile_kernels(examples: Iterable[Example]) -> dict[str, dict[str, int]]:
    """Repeats the calls under the profiler; kind of kernel -> name of the kernel -> how often it ran.

    Kinds: `self` and `cross` attention, `matmul`, and on a GPU `attention_kernels` and `matmul_kernels`. The strategy
    must be off the denoisers again.
    """
    import torch

    found: dict[str, Counter[str]] = {kind: Counter() for kind in ("self", "cross", "matmul", *DEVICE_KERNELS)}
    for denoiser, args, kwargs in examples:
        with torch.no_grad(), _profile() as events:  # not inference mode: offloaded quantized weights cannot move in it
            denoiser(*args, **kwargs)
        for kind, name in _list_kernels(events):
            found[kind][name] += 1
    return {kind: dict(sorted(counts.items())) for kind, counts in found.items()}


@contextmanager
def _profile() -> Iterator[list[Any]]:
    """Fills the list with the profiler's events when the context ends.

    As its C++ code gives them: `profiler.events()` makes an object of Python of each, with everything about it, and
    takes half a millisecond for each of the tens of thousands of a call.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    profiler = profile(activities=activities, record_shapes=True)
    events: list[Any] = []
    with _mute():
        profiler.start()
    try:
        yield events
    finally:
        with _mute():
            profiler.stop()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events += profiler.profiler.kineto_results.events()


@contextmanager
def _mute() -> Iterator[None]:
    """Discards what the profiler's C++ code writes to stderr when it starts and stops: a line each, for debugging."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _list_kernels(events: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """(kind, name) of each kernel among the profiler's events.

    An operator inside of one of the same name, which has passed on to it, is counted once.
    """
    ends: dict[tuple[int, str], int] = {}
    for event in sorted((e for e in events if _classify(e)), key=lambda e: e.start_ns()):
        key = event.start_thread_id(), event.name()
        if event.device_type().name != "CPU" or event.start_ns() >= ends.get(key, 0):
            ends[key] = event.end_ns()
            yield from ((kind, event.name()) for kind in _classify(event))


def _classify(event: Any) -> list[str]:
    """The kinds that an event of the profiler belongs to."""
    name = event.name()
    if event.device_type().name != "CPU":
        return [kind for kind, pattern in DEVICE_KERNELS.items() if pattern.search(name)]
    if ATTENTION.search(name) and not INSIDE.search(name):
        return [_tell_attention(event.shapes())]
    return ["matmul"] if MATMUL.search(name) else []


def _tell_attention(shapes: list[list[int]]) -> str:
    """`self` or `cross`, by the lengths of queries and keys. Without shapes of both: `self`."""
    # Whether the heads come before the tokens, as in torch's own operators, or after them: only the lengths differ.
    tensors = [shape for shape in shapes[:2] if len(shape) >= 3]
    return "self" if len(tensors) < 2 or tensors[0] == tensors[1] else "cross"


def needs_kernels(engaged: dict[str, Any]) -> bool:
    """True if a pipeline's evidence needs the kernels that ran: with an attention backend, or quantized.

    Not where quantized weights are offloaded: torch moves them only while nothing else refers to them, and its profiler
    does.
    """
    memory = engaged.get("memory") or {}
    moves = memory.get("group_offload") or memory.get("model_offload")
    return bool(engaged.get("attention") or engaged.get("quant")) and not (engaged.get("quant") and moves)


def add_kernels(engaged: dict[str, Any], kernels: dict[str, dict[str, int]] | None) -> dict[str, Any]:
    """A pipeline's evidence with the kernels that `profile_kernels` saw.

    Raises:
        RunError: attention ran with other operators than the backend's.
    """
    if kernels is None:
        return engaged
    added = dict(engaged)
    if attention := engaged.get("attention"):
        refuse_other_operators(attention["backend"], [*kernels["self"], *kernels["cross"]])
        added["attention"] = {**attention, **{kind: kernels[kind] for kind in ("self", "cross", "attention_kernels")}}
    if quant := engaged.get("quant"):
        added["quant"] = {**quant, "kernels": {**kernels["matmul"], **kernels["matmul_kernels"]}}
    return added
