"""Which share of a denoiser's arithmetic a strategy left to do, in floating-point operations (FLOPs).

Counted by `torch.utils.flop_counter`: matrix products, convolutions and attention, two for each multiply-add; not what
goes element by element, where predictors do their work. During the warm-up the calls of the denoiser are noted; after
it, each form of them is called once more with nothing attached, and counted: no timed generation is touched, and the
warm-up itself keeps its bits and its time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ..config.schema import CacheConfig
from ..models.family import Blocks, UNetBlocks
from ..process import interrupts
from .window import head_blocks

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Cost:
    """FLOPs of one call of a denoiser that computes everything."""

    denoiser: int
    blocks: int
    """Of these, what its repeated blocks take."""
    skippable: int
    """Of these, what is left out where the strategy reuses."""


@dataclass(kw_only=True)
class Calls:
    """The calls of the denoisers in one generation, and the arguments of the first one of each form."""

    forms: list[str] = field(default_factory=list)
    """One a call, in order. Calls of one form take the same FLOPs: same denoiser, same shapes."""
    first: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)
    """Form -> denoiser, args, kwargs."""


@dataclass(frozen=True, kw_only=True)
class Flops:
    """What the calls of a generation take when everything is computed."""

    calls: tuple[Cost, ...] = ()
    """One a call, in order."""
    missing: str = ""
    """Why they were not counted."""


NO_WARMUP = Flops(missing="no warm-up (measure.warmup=0)")

_KNOWN: WeakKeyDictionary[torch.nn.Module, dict[str, dict[str, int]]] = WeakKeyDictionary()
"""Denoiser -> form of a call -> FLOPs by module."""


@contextmanager
def noted(denoisers: Sequence[torch.nn.Module]) -> Iterator[Calls]:
    """Notes every call of the denoisers; changes nothing, and leaves no hook."""
    calls = Calls()

    def note(denoiser: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        form = f"{denoisers.index(denoiser)}: {_form(args)} {_form(kwargs)}"
        calls.forms.append(form)
        calls.first.setdefault(form, (denoiser, args, kwargs))

    # A hook on a compiled module would have it compiled again.
    plain = [denoiser for denoiser in denoisers if not compiled(denoiser)]
    handles = [denoiser.register_forward_pre_hook(note, with_kwargs=True) for denoiser in plain]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _form(value: Any) -> str:
    """Shapes of the tensors in a call's arguments, and the plain values beside them."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_form(one)}" for name, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_form, value)) + "]"
    if hasattr(value, "shape"):
        return str(tuple(value.shape))
    # Floats are times and scales, another one at each step.
    return repr(value) if value is None or isinstance(value, (bool, int, str)) else type(value).__name__


def counted(calls: Calls, blocks: Blocks | UNetBlocks | None, cache: CacheConfig) -> Flops:
    """Counts one call of each form. To be called when the strategy is off the denoisers again."""
    if not calls.forms:
        return Flops(missing="the denoiser is compiled")
    try:
        costs = {form: _cost(*call, blocks, cache) for form, call in calls.first.items()}
    except Exception as error:  # operators of other packages that cannot be taken apart: no reason to fail a run
        interrupts.raise_if_interrupted()
        return Flops(missing=f"{type(error).__name__} while counting: {' '.join(str(error).split())[:200]}")
    return Flops(calls=tuple(costs[form] for form in calls.forms))


def _cost(
    denoiser: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    blocks: Blocks | UNetBlocks | None,
    cache: CacheConfig,
) -> Cost:
    found = _by_module(denoiser, args, kwargs)
    names = {module: f"{type(denoiser).__name__}.{name}" for name, module in denoiser.named_modules()}

    def of(modules: Sequence[Any]) -> int:
        return sum(found.get(names[module], 0) for module in modules)

    repeated, skippable = parts(denoiser, blocks, cache)
    return Cost(denoiser=found.get("Global", 0), blocks=of(repeated), skippable=of(skippable))


def _by_module(denoiser: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, int]:
    """FLOPs of a call, by the counter's names of modules. In a sweep many settings make calls of one form."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # What its layers are, too: a stage of a plugin's may have changed them in place.
    layers = hash(tuple((name, type(module)) for name, module in denoiser.named_modules()))
    known, form = _KNOWN.setdefault(denoiser, {}), f"{layers} {_form(args)} {_form(kwargs)}"
    if form not in known:
        # torch knows the fused attention of CUDA alone.
        on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops}
        with torch.inference_mode(), FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
            denoiser(*args, **kwargs)
        known[form] = {name: sum(one.values()) for name, one in counter.get_flop_counts().items()}
    return known[form]


def attention_flops(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Of scaled dot-product attention, from shapes (batch, heads, tokens, width): Q K^T, and its product with V."""
    batch, heads, queries, width = query
    return int(2 * batch * heads * queries * key[2] * (width + value[3]))


def parts(
    denoiser: Any, blocks: Blocks | UNetBlocks | None, cache: CacheConfig
) -> tuple[list[torch.nn.Module], list[torch.nn.Module]]:
    """A denoiser's repeated blocks in the order in which they run, and those of them that a reuse leaves out; of a
    U-Net the modules of its layers."""
    head, tail = head_blocks(cache), cache.tail_blocks
    if isinstance(blocks, UNetBlocks):
        from .attach.unet import layers

        every = [[one.resnet, one.attention, *one.resamplers] for one in layers(denoiser)]
        head, tail = (head, 0) if cache.depth is None else (cache.depth, cache.depth + 1)
    else:
        every = [[block] for one in (blocks.lists if blocks else ()) for block in getattr(denoiser, one.name)]
    skippable = every[head : len(every) - tail]
    return _modules(every), _modules(skippable)


def _modules(groups: list[list[Any]]) -> list[Any]:
    return [module for group in groups for module in group if module is not None]


def compiled(denoiser: Any) -> bool:
    """Whether it, or a module in it, goes through torch.compile: the counter sees no operators there."""
    return any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in denoiser.modules()
    )
