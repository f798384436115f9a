"""Counts the floating-point operations (FLOPs) of a denoiser's calls: what a strategy could save, and did.

Counted by `torch.utils.flop_counter`: matrix products, convolutions and attention, two FLOPs a multiply-add; not
elementwise operations, which is where predictors work. During the warm-up the calls of the denoiser are recorded;
afterwards one call of each shape is repeated with nothing attached, and counted. So no timed generation is slowed down,
and the warm-up itself does exactly what a timed generation does.
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
from .attach.unet_layers import list_layers
from .window import count_head_blocks

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class CallFlops:
    """FLOPs of one call of a denoiser that computes everything."""

    denoiser: int
    blocks: int
    """The part of its repeated blocks."""
    skippable: int
    """The part of the blocks that a cached step skips."""


@dataclass(kw_only=True)
class RecordedCalls:
    """The calls of the denoisers in one generation, with the arguments of one call of each shape."""

    shapes: list[str] = field(default_factory=list)
    """One a call, in order. Calls of one shape (same denoiser, same shapes of tensors) take the same FLOPs."""
    examples: dict[str, tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)
    """Shape -> denoiser, args, kwargs of the first such call."""


@dataclass(frozen=True, kw_only=True)
class Flops:
    """FLOPs of a generation's calls if everything is computed."""

    calls: tuple[CallFlops, ...] = ()
    """One a call, in order."""
    missing: str = ""
    """Why they were not counted."""


NO_WARMUP = Flops(missing="no warm-up (measure.warmup=0)")
OTHER_RANKS = Flops(missing="guidance branches on different ranks")

_COUNTED: WeakKeyDictionary[torch.nn.Module, dict[str, dict[str, int]]] = WeakKeyDictionary()
"""Denoiser -> shape of a call -> FLOPs by module."""


@contextmanager
def record_calls(denoisers: Sequence[torch.nn.Module]) -> Iterator[RecordedCalls]:
    """Records every call of the denoisers while the context is open; leaves no hook behind."""
    calls = RecordedCalls()

    def record(denoiser: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        shape = f"{denoisers.index(denoiser)}: {_describe_shapes(args)} {_describe_shapes(kwargs)}"
        calls.shapes.append(shape)
        calls.examples.setdefault(shape, (denoiser, args, kwargs))

    plain = [denoiser for denoiser in denoisers if not is_compiled_with_hooks(denoiser)]
    handles = [denoiser.register_forward_pre_hook(record, with_kwargs=True) for denoiser in plain]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _describe_shapes(value: Any) -> str:
    """The shapes of the tensors in a call's arguments, and the other values that change what is computed."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_describe_shapes(item)}" for name, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_describe_shapes, value)) + "]"
    if hasattr(value, "shape"):
        return str(tuple(value.shape))
    # Floats are timesteps and scales, which differ at each step and do not change the FLOPs.
    return repr(value) if value is None or isinstance(value, (bool, int, str)) else type(value).__name__


def count_generation_flops(calls: RecordedCalls, blocks: Blocks | UNetBlocks | None, cache: CacheConfig) -> Flops:
    """Counts the FLOPs of recorded calls, by repeating one call of each shape.

    Call it when the strategy is off the denoisers again. Never fails: `Flops.missing` says why nothing was counted.
    """
    if not calls.shapes:
        return Flops(missing="the denoiser is compiled together with its hooks")
    try:
        counted = {shape: _count_call(*call, blocks, cache) for shape, call in calls.examples.items()}
    except Exception as error:  # operators of other packages that the counter cannot trace: no reason to fail a run
        interrupts.raise_if_interrupted()
        return Flops(missing=f"{type(error).__name__} while counting: {' '.join(str(error).split())[:200]}")
    return Flops(calls=tuple(counted[shape] for shape in calls.shapes))


def _count_call(
    denoiser: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    blocks: Blocks | UNetBlocks | None,
    cache: CacheConfig,
) -> CallFlops:
    by_module = _count_by_module(denoiser, args, kwargs)
    names = {module: f"{type(denoiser).__name__}.{name}" for name, module in denoiser.named_modules()}

    def total(modules: Sequence[torch.nn.Module]) -> int:
        return sum(by_module.get(names[module], 0) for module in modules)

    repeated, skippable = find_blocks(denoiser, blocks, cache)
    return CallFlops(denoiser=by_module.get("Global", 0), blocks=total(repeated), skippable=total(skippable))


def _count_by_module(denoiser: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, int]:
    """FLOPs of a call under the counter's names of modules. Kept: in a sweep many settings make calls of one shape."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # The classes of its layers count as well: a plugin's stage may have replaced layers in place.
    layers = hash(tuple((name, type(module)) for name, module in denoiser.named_modules()))
    counted, shape = (
        _COUNTED.setdefault(denoiser, {}),
        f"{layers} {_describe_shapes(args)} {_describe_shapes(kwargs)}",
    )
    if shape not in counted:
        # Out of the box torch counts CUDA's fused attention only, and no products of integers.
        more = {
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: count_attention_flops,
            torch.ops.aten._int_mm: count_product_flops,
        }
        # The counter sees no operators inside of compiled code: what is compiled runs eagerly this once.
        eagerly = torch.compiler.set_stance("force_eager")
        with torch.no_grad(), eagerly, FlopCounterMode(display=False, custom_mapping=more) as counter:
            denoiser(*args, **kwargs)
        by_operator = counter.get_flop_counts()
        counted[shape] = {name: sum(operators.values()) for name, operators in by_operator.items()}
    return counted[shape]


def count_attention_flops(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """FLOPs of scaled dot-product attention, from shapes (batch, heads, tokens, width): Q K^T, then times V."""
    batch, heads, queries, width = query
    return int(2 * batch * heads * queries * key[2] * (width + value[3]))


def count_product_flops(left: Any, right: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Operations of a matrix product, from the shapes of its factors; those on integers count as much as others."""
    rows, inner = left
    return int(2 * rows * inner * right[1])


def find_blocks(
    denoiser: torch.nn.Module, blocks: Blocks | UNetBlocks | None, cache: CacheConfig
) -> tuple[list[torch.nn.Module], list[torch.nn.Module]]:
    """A denoiser's repeated blocks in the order in which they run, and those of them that a cached step skips.

    Of a U-Net, the modules of its layers.
    """
    head, tail = count_head_blocks(cache), cache.tail_blocks
    if isinstance(blocks, UNetBlocks):
        groups = [[layer.resnet, layer.attention, *layer.resamplers] for layer in list_layers(denoiser)]
        head, tail = (head, 0) if cache.depth is None else (cache.depth, cache.depth + 1)
    else:
        lists = blocks.lists if blocks else ()
        groups = [[block] for block_list in lists for block in getattr(denoiser, block_list.name)]
    return _flatten(groups), _flatten(groups[head : len(groups) - tail])


def _flatten(groups: list[list[Any]]) -> list[torch.nn.Module]:
    return [module for group in groups for module in group if module is not None]


def is_compiled_with_hooks(denoiser: torch.nn.Module) -> bool:
    """True if the denoiser was compiled together with its hooks: another hook would have it compiled again.

    `Module.compile()` and `torch.compile(module)` do that; the group `compile` replaces `forward` alone.
    """
    return hasattr(denoiser, "_orig_mod") or getattr(denoiser, "_compiled_call_impl", None) is not None
