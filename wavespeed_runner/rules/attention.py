"""Rules on attention backends: what each needs of device, package, number format, masks and heads."""

from __future__ import annotations

from collections.abc import Callable

from ..accelerate.attention_families import find_attention, find_largest_head
from ..accelerate.attention_options import BACKENDS, DISPATCHER, Backend, Masks
from ..config.capability import read_capability
from ..config.environment import resolve_device
from ..config.schema import Config
from ..models.family import Family
from .attention_needs import (
    breaks_graph,
    find_backend,
    find_capability,
    find_kind,
    find_misfits,
    is_planned_elsewhere,
    is_replaced,
    lacks_bfloat16,
    lacks_capability,
    lacks_device,
    lacks_dtype,
    lacks_heads,
    lacks_masks,
    lacks_package,
    needs_compile,
)
from .rule import Rule

TESTS = "tests/accelerate/test_attention.py"
FAMILIES = "tests/accelerate/test_attention_families.py"
TAKES = {
    Masks.any: "all masks",
    Masks.boolean: "boolean masks only",
    Masks.additive: "masks of numbers only",
    Masks.padding: "masks of padding only",
    Masks.none: "no masks",
}


def _applies(misfit: Callable[[Config, Backend], bool]) -> Callable[[Config, Family], bool]:
    def when(c: Config, f: Family) -> bool:
        backend = find_backend(c)
        return backend is not None and misfit(c, backend)

    return when


def _suggest(c: Config, f: Family) -> str:
    names = [name for name, backend in BACKENDS.items() if not find_misfits(c, backend)]
    return "attention=none; these fit: " + ", ".join(f"attention={name}" for name in names)


def _get(c: Config) -> Backend:
    backend = find_backend(c)
    assert backend is not None
    return backend


def _describe_capability(b: Backend) -> str:
    """What a backend needs of a GPU, in words."""
    if b.capability is None:
        return "an NVIDIA GPU"
    low = ".".join(map(str, b.capability))
    if b.generations:
        return f"an NVIDIA GPU of compute capability {', '.join('.'.join(map(str, each)) for each in b.generations)}"
    if b.newest is None:
        return f"an NVIDIA GPU of compute capability {low} or higher"
    high = ".".join(map(str, b.newest))
    return f"an NVIDIA GPU of compute capability {low}" + (f" to {high}" if high != low else "")


def _describe_needs(b: Backend) -> str:
    package = f", and the package {b.package} ({b.install})" if b.package else ""
    return _describe_capability(b) + package


def _list_dtypes(c: Config) -> list[str]:
    """The number formats that the backend computes in on this GPU."""
    return [name for name in _get(c).dtypes if not (name == "bfloat16" and lacks_bfloat16(c, _get(c)))]


def _describe_heads(c: Config) -> str:
    family, backend = find_attention(c.model), _get(c)
    sizes = " or ".join(map(str, backend.head_sizes)) or f"up to {find_largest_head(backend, find_capability(c))}"
    heads = ", ".join(map(str, family.heads)) if family else ""
    return f"attention={c.attention.name} computes heads of size {sizes}, and this model's are of size {heads}"


ATTENTION_BACKENDS: tuple[Rule, ...] = (
    Rule(
        id="attention-device",
        verdict="bad",
        when=_applies(lacks_device),
        message=lambda c, f: (
            f"attention={c.attention.name} runs on {', '.join(_get(c).devices)}, and this run on {find_kind(c)}"
        ),
        fix=lambda c, f: _suggest(c, f) + ("; or device=cuda" if "cuda" in _get(c).devices else ""),
        source=DISPATCHER,
    ),
    Rule(
        id="attention-package",
        verdict="bad",
        when=_applies(lacks_package),
        message=lambda c, f: (
            f"attention={c.attention.name} needs the package {_get(c).package}, which is not installed"
        ),
        fix=lambda c, f: f"install {_get(c).install}, or {_suggest(c, f)}",
        source=DISPATCHER,
    ),
    Rule(
        id="attention-capability",
        verdict="bad",
        when=_applies(lacks_capability),
        message=lambda c, f: (
            f"attention={c.attention.name} needs {_describe_capability(_get(c))}, and device={c.device} has "
            f"{'.'.join(map(str, read_capability(resolve_device(c.device)) or ()))}"
        ),
        fix=_suggest,
        source="the sources in docs/attention.md",
    ),
    Rule(
        id="attention-dtype",
        verdict="bad",
        when=_applies(lacks_dtype),
        message=lambda c, f: (
            f"attention={c.attention.name} computes in {' or '.join(_list_dtypes(c))}, and model.dtype is "
            f"{c.model.dtype.value}"
        ),
        fix=lambda c, f: f"model.dtype={_list_dtypes(c)[-1]}, or {_suggest(c, f)}",
        source=DISPATCHER,
    ),
    Rule(
        id="attention-masks",
        verdict="bad",
        when=_applies(lacks_masks),
        message=lambda c, f: (
            f"attention={c.attention.name} takes {TAKES[_get(c).masks]}, and this model's attention has other ones"
            + (" with batch_size above 1" if getattr(find_attention(c.model), "only_in_batches", False) else "")
        ),
        fix=_suggest,
        source=FAMILIES,
    ),
    Rule(
        id="attention-heads",
        verdict="bad",
        when=_applies(lacks_heads),
        message=lambda c, f: _describe_heads(c),
        fix=_suggest,
        source=FAMILIES,
    ),
    Rule(
        id="attention-replaced",
        verdict="bad",
        when=_applies(is_replaced),
        message="attention={c.attention.name}: torch.compile recognizes its operations and puts a fused kernel in "
        "their place",
        fix=_suggest,
        source="tests/accelerate/test_kernels.py",
    ),
    Rule(
        id="attention-flex-eager",
        verdict="bad",
        when=_applies(needs_compile),
        message="attention=flex: its kernel is made by torch.compile; without it, torch keeps all scores in memory",
        fix="compile=regional, or another backend",
        source="torch.nn.attention.flex_attention, its warning (torch 2.13)",
    ),
    Rule(
        id="attention-sage-fullgraph",
        verdict="bad",
        when=_applies(breaks_graph),
        message="attention={c.attention.name} chooses the CUDA device at each call, which breaks a full graph",
        fix="compile.fullgraph=false",
        source="https://github.com/thu-ml/SageAttention sageattention/core.py",
    ),
    Rule(
        id="attention-elsewhere",
        verdict="unverified",
        when=lambda c, f: find_backend(c) is not None and is_planned_elsewhere(c),
        message=lambda c, f: (
            f"attention={c.attention.name} needs {_describe_needs(_get(c))}; this machine has no GPU to check that with"
        ),
        fix="plan it again on the machine that will run it",
        source="the sources in docs/attention.md",
    ),
    Rule(
        id="attention-hub",
        verdict="unverified",
        when=lambda c, f: bool(getattr(find_backend(c), "hub", "")),
        message=lambda c, f: (
            f"attention={c.attention.name} downloads compiled code from https://huggingface.co/{_get(c).hub} "
            "and runs it"
        ),
        fix="an installed package, such as attention=flash or attention=sage",
        source=DISPATCHER,
    ),
    Rule(
        id="attention-linear",
        verdict="unverified",
        when=lambda c, f: find_backend(c) is not None and getattr(find_attention(c.model), "linear", False),
        message="attention={c.attention.name}: this model's self attention is linear and has no backends; only its "
        "cross attention uses it",
        fix="attention=none",
        source=FAMILIES,
    ),
    Rule(
        id="attention-unknown",
        verdict="unverified",
        when=lambda c, f: find_backend(c) is not None and find_attention(c.model) is None,
        message="attention={c.attention.name}: nothing is known of the masks and heads of this model; what does not "
        "fit fails in the first step",
        fix="attention=none",
        source=TESTS,
    ),
)
