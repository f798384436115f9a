"""Rules on attention backends: what each needs of device, package, number format, masks and heads."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from ..accelerate.attention_families import find_attention, takes_heads, takes_masks
from ..accelerate.attention_options import BACKENDS, DISPATCHER, Backend, Masks
from ..config.capability import read_capability
from ..config.environment import resolve_device
from ..config.schema import Config
from ..models.family import Family
from ..registry import find_implementation
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


def _find_backend(c: Config) -> Backend | None:
    backend: Backend | None = find_implementation("attention", c.attention)
    return backend


def _find_kind(c: Config) -> str:
    return resolve_device(c.device).partition(":")[0]


def _is_planned_elsewhere(c: Config) -> bool:
    """True if the plan is for a GPU that this machine does not have."""
    return _find_kind(c) == "cuda" and read_capability(resolve_device(c.device)) is None


def _is_compiled(c: Config) -> bool:
    return c.compile.name != "none" and not getattr(c.compile, "disable", False)


def _lacks_device(c: Config, b: Backend) -> bool:
    return _find_kind(c) not in b.devices


def _lacks_package(c: Config, b: Backend) -> bool:
    # A plan for another machine cannot know what is installed there.
    return bool(b.package) and not _is_planned_elsewhere(c) and find_spec(b.package) is None


def _lacks_capability(c: Config, b: Backend) -> bool:
    capability = read_capability(resolve_device(c.device)) if _find_kind(c) == "cuda" else None
    if capability is None:
        return False
    return (b.capability is not None and capability < b.capability) or (b.newest is not None and capability > b.newest)


def _lacks_dtype(c: Config, b: Backend) -> bool:
    return _find_kind(c) != "cpu" and c.model.dtype.value not in b.dtypes


def _lacks_masks(c: Config, b: Backend) -> bool:
    return not takes_masks(b.masks, c)


def _lacks_heads(c: Config, b: Backend) -> bool:
    return not takes_heads(b, c)


def _is_replaced(c: Config, b: Backend) -> bool:
    return _is_compiled(c) and not b.survives_compile


def _needs_compile(c: Config, b: Backend) -> bool:
    return b.dispatch == "flex" and not _is_compiled(c)


def _breaks_graph(c: Config, b: Backend) -> bool:
    return b.package == "sageattention" and _is_compiled(c) and bool(getattr(c.compile, "fullgraph", False))


MISFITS: tuple[Callable[[Config, Backend], bool], ...] = (
    *(_lacks_device, _lacks_package, _lacks_capability, _lacks_dtype, _lacks_masks, _lacks_heads),
    *(_is_replaced, _needs_compile, _breaks_graph),
)
"""What can keep a backend from computing a configuration."""


def fits_model(c: Config, b: Backend) -> bool:
    """True if a backend can compute the masks and heads of a configuration's model, whatever the device."""
    return takes_masks(b.masks, c) and takes_heads(b, c)


def find_misfits(c: Config, b: Backend) -> list[str]:
    """Names of the functions in `MISFITS` that are true of a backend; empty: it fits."""
    return [misfit.__name__ for misfit in MISFITS if misfit(c, b)]


def _applies(misfit: Callable[[Config, Backend], bool]) -> Callable[[Config, Family], bool]:
    def when(c: Config, f: Family) -> bool:
        backend = _find_backend(c)
        return backend is not None and misfit(c, backend)

    return when


def _suggest(c: Config, f: Family) -> str:
    names = [name for name, backend in BACKENDS.items() if not find_misfits(c, backend)]
    return "attention=none; these fit: " + ", ".join(f"attention={name}" for name in names)


def _get(c: Config) -> Backend:
    backend = _find_backend(c)
    assert backend is not None
    return backend


def _describe_capability(b: Backend) -> str:
    """What a backend needs of a GPU, in words."""
    if b.capability is None:
        return "an NVIDIA GPU"
    low = ".".join(map(str, b.capability))
    if b.newest is None:
        return f"an NVIDIA GPU of compute capability {low} or higher"
    high = ".".join(map(str, b.newest))
    return f"an NVIDIA GPU of compute capability {low}" + (f" to {high}" if high != low else "")


def _describe_needs(b: Backend) -> str:
    package = f", and the package {b.package} ({b.install})" if b.package else ""
    return _describe_capability(b) + package


def _describe_heads(c: Config) -> str:
    family, backend = find_attention(c.model), _get(c)
    sizes = " or ".join(map(str, backend.head_sizes)) or f"up to {backend.largest_head}"
    heads = ", ".join(map(str, family.heads)) if family else ""
    return f"attention={c.attention.name} computes heads of size {sizes}, and this model's are of size {heads}"


ATTENTION_BACKENDS: tuple[Rule, ...] = (
    Rule(
        id="attention-device",
        verdict="bad",
        when=_applies(_lacks_device),
        message=lambda c, f: (
            f"attention={c.attention.name} runs on {', '.join(_get(c).devices)}, and this run on {_find_kind(c)}"
        ),
        fix=lambda c, f: _suggest(c, f) + ("; or device=cuda" if "cuda" in _get(c).devices else ""),
        source=DISPATCHER,
    ),
    Rule(
        id="attention-package",
        verdict="bad",
        when=_applies(_lacks_package),
        message=lambda c, f: (
            f"attention={c.attention.name} needs the package {_get(c).package}, which is not installed"
        ),
        fix=lambda c, f: f"install {_get(c).install}, or {_suggest(c, f)}",
        source=DISPATCHER,
    ),
    Rule(
        id="attention-capability",
        verdict="bad",
        when=_applies(_lacks_capability),
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
        when=_applies(_lacks_dtype),
        message=lambda c, f: (
            f"attention={c.attention.name} computes in {' or '.join(_get(c).dtypes)}, and model.dtype is "
            f"{c.model.dtype.value}"
        ),
        fix=lambda c, f: f"model.dtype=bfloat16, or {_suggest(c, f)}",
        source=DISPATCHER,
    ),
    Rule(
        id="attention-masks",
        verdict="bad",
        when=_applies(_lacks_masks),
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
        when=_applies(_lacks_heads),
        message=lambda c, f: _describe_heads(c),
        fix=_suggest,
        source=FAMILIES,
    ),
    Rule(
        id="attention-replaced",
        verdict="bad",
        when=_applies(_is_replaced),
        message="attention={c.attention.name}: torch.compile recognizes its operations and puts a fused kernel in "
        "their place",
        fix=_suggest,
        source="tests/accelerate/test_kernels.py",
    ),
    Rule(
        id="attention-flex-eager",
        verdict="bad",
        when=_applies(_needs_compile),
        message="attention=flex: its kernel is made by torch.compile; without it, torch computes all scores one by one",
        fix="compile=regional, or another backend",
        source="https://docs.pytorch.org/docs/stable/nn.attention.flex_attention.html",
    ),
    Rule(
        id="attention-sage-fullgraph",
        verdict="bad",
        when=_applies(_breaks_graph),
        message="attention={c.attention.name} chooses the CUDA device at each call, which breaks a full graph",
        fix="compile.fullgraph=false",
        source="https://github.com/thu-ml/SageAttention sageattention/core.py",
    ),
    Rule(
        id="attention-elsewhere",
        verdict="unverified",
        when=lambda c, f: _find_backend(c) is not None and _is_planned_elsewhere(c),
        message=lambda c, f: (
            f"attention={c.attention.name} needs {_describe_needs(_get(c))}; this machine has no GPU to check that with"
        ),
        fix="plan it again on the machine that will run it",
        source="the sources in docs/attention.md",
    ),
    Rule(
        id="attention-hub",
        verdict="unverified",
        when=lambda c, f: bool(getattr(_find_backend(c), "hub", "")),
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
        when=lambda c, f: _find_backend(c) is not None and getattr(find_attention(c.model), "linear", False),
        message="attention={c.attention.name}: this model's self attention is linear and has no backends; only its "
        "cross attention uses it",
        fix="attention=none",
        source=FAMILIES,
    ),
    Rule(
        id="attention-unknown",
        verdict="unverified",
        when=lambda c, f: _find_backend(c) is not None and find_attention(c.model) is None,
        message="attention={c.attention.name}: nothing is known of the masks and heads of this model; what does not "
        "fit fails in the first step",
        fix="attention=none",
        source=TESTS,
    ),
)
