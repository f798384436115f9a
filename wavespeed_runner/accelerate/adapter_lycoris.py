"""LoHa and LoKr, as LyCORIS writes them, https://arxiv.org/abs/2309.14859: the factors that a file may hold of a layer.

PEFT takes a whole matrix in place of two factors if a file has both, ignores DoRA here, and computes what the factors
say, however large; so their names are checked by the plan, and their shapes before anything is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from .adapter_parts import DORA, DOWN, LOHA, LOKR, UP, split_part

if TYPE_CHECKING:
    import torch

HADAMARD = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
LEFT = ({"lokr_w1"}, {"lokr_w1_a", "lokr_w1_b"})
RIGHT = ({"lokr_w2"}, {"lokr_w2_a", "lokr_w2_b"}, {"lokr_w2_a", "lokr_w2_b", "lokr_t2"})
FORMS: dict[str, tuple[frozenset[str], ...]] = {
    "LoHa": (HADAMARD, HADAMARD | {"hada_t1", "hada_t2"}),
    "LoKr": tuple(frozenset(left | right) for left, right in product(LEFT, RIGHT)),
}
"""Kind -> the sets of factors that make up an update."""


def find_unusable(keys: Iterable[str]) -> str | None:
    """Why a LoHa or LoKr in a file cannot be applied: PEFT would leave out a part, or one is missing. None if all can.

    keys: names of the file's tensors.
    """
    layers: dict[str, dict[str, str]] = {}
    for key in keys:
        if named := split_part(key, (*LOHA, *LOKR, *DOWN, *UP, DORA)):
            layers.setdefault(named[0], {})[named[1].removeprefix(".")] = key
    for layer, parts in layers.items():
        starts = {part[:5] for part in parts}
        if not starts & {"hada_", "lokr_"}:
            continue
        kind = "LoHa" if "hada_" in starts else "LoKr"
        whole = [form for form in FORMS[kind] if form <= parts.keys()]
        if not whole:
            absent = min((sorted(form - parts.keys()) for form in FORMS[kind]), key=len)
            return f"{layer}: a {kind} without {', '.join(absent)}; use a whole file"
        form = max(whole, key=len)
        if surplus := sorted(parts.keys() - form):
            what = f"DoRA of a {kind} is" if f".{surplus[0]}" == DORA else f"a {kind} with this part too is"
            return f"{parts[surplus[0]]}: {what} not supported; use a file without it, or merge it into a checkpoint"
    return None


def find_misfit(parts: dict[str, torch.Tensor], shape: list[int]) -> str | None:
    """Why factors do not make up an update of a weight; None if they do. Then no product is larger than the weight.

    Args:
        parts: of a form of `FORMS`.
        shape: of the weight, (out, in) or (out, in, *kernel).
    """
    out, into, kernel = shape[0], shape[1], math.prod(shape[2:])
    kind = "hada" if "hada_w1_a" in parts else "lokr"
    sizes = [_measure(parts, kind, index, (max(out, into), kernel)) for index in (1, 2)]
    fits = None not in sizes
    (rows, columns), (more_rows, more_columns) = (size or (0, 0) for size in sizes)
    if kind == "hada":  # LyCORIS gives both matrices the same rank, by which alpha is divided
        firsts = [part for part in parts if part.startswith(("hada_w1", "hada_t1"))]
        fits = fits and all(parts[part].shape == parts[part.replace("1", "2")].shape for part in firsts)
    else:
        rows, columns = rows * more_rows, columns * more_columns
    if not fits:
        listed = ", ".join(f"{name} {list(part.shape)}" for name, part in sorted(parts.items()) if name != "alpha")
        return f"its factors do not fit together, or a weight of {shape}: {listed}"
    if (rows, columns) != (out, into * kernel):
        return f"it changes a weight of {(rows, columns)}, and the model's has {shape}"
    return None


def _measure(parts: dict[str, torch.Tensor], kind: str, index: int, limits: tuple[int, int]) -> tuple[int, int] | None:
    """(rows, values in a row) of one of the two matrices of an update; None if its factors do not fit together.

    Args:
        parts: of the update.
        kind: `hada` or `lokr`.
        index: 1 or 2.
        limits: the largest rank of a core, which multiplies what is computed in between, and the values of a kernel.
    """
    whole, first, second = (parts.get(f"{kind}_w{index}{end}") for end in ("", "_a", "_b"))
    core = parts.get(f"{kind}_t{index}")
    most, kernel = limits
    if whole is not None:  # PEFT multiplies 2 and 4 dimensions right, and the left one of a LoKr has 2
        if whole.ndim == 4 and index == 2 and whole.shape[2] * whole.shape[3] == kernel:
            return len(whole), whole.shape[1] * kernel
        return (len(whole), whole.shape[1]) if whole.ndim == 2 else None
    if first is None or second is None or first.ndim != 2 or second.ndim != 2:
        return None
    if core is None:
        return (len(first), second.shape[1]) if first.shape[1] == len(second) > 0 else None
    ranks = len(first), len(second)  # Tucker: rank first in both, and the kernel in the core
    fits = core.ndim == 4 and tuple(core.shape[:2]) == ranks and core.shape[2] * core.shape[3] == kernel
    return (first.shape[1], second.shape[1] * kernel) if fits and 0 < min(ranks) <= max(ranks) <= most else None


def fill(layer: Any, name: str, parts: dict[str, torch.Tensor], where: str) -> None:
    """Puts the factors of a LoHa or LoKr in place of those that PEFT has made, whatever their shapes.

    Args:
        layer: PEFT's.
        name: the adapter's.
        parts: factors that `find_misfit` has passed, and alpha.
        where: the layer's name in the file, for messages.
    """
    import torch

    base = layer.get_base_layer().weight
    for part in layer.adapter_layer_names:
        holder = getattr(layer, part)
        if name in holder:
            del holder[name]
        if part in parts:
            holder[name] = torch.nn.Parameter(parts[part].to(base.device, base.dtype), requires_grad=False)
    rank = _read_rank(parts)
    layer.r[name] = rank or 1
    # Of a Kronecker product of whole matrices, LyCORIS ignores alpha.
    layer.alpha[name] = float(parts.get("alpha", rank)) if rank else 1
    layer.set_scale(name, 1.0)
    try:
        layer.get_delta_weight(name)
    except (RuntimeError, KeyError) as error:
        raise RunError(f"{where}: its factors do not fit together: {error}") from error


def _read_rank(parts: dict[str, torch.Tensor]) -> int:
    """Rank of a LoHa or LoKr; 0 for a LoKr of two whole matrices."""
    named = [part for part in ("hada_w1_b", "lokr_w2_b", "lokr_w1_b") if part in parts]
    return len(parts[named[0]]) if named else 0
