"""What attention backends need of a configuration: the conditions of the rules in `attention.py`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from ..accelerate.attention_families import takes_heads, takes_masks
from ..accelerate.attention_options import Backend
from ..config.capability import read_capability
from ..config.environment import resolve_device
from ..config.schema import Config, Dtype
from ..registry import find_implementation


def find_backend(c: Config) -> Backend | None:
    """The chosen backend; None with `attention=none`."""
    backend: Backend | None = find_implementation("attention", c.attention)
    return backend


def find_kind(c: Config) -> str:
    """The kind of device that the run computes on: cpu, cuda or mps."""
    return resolve_device(c.device).partition(":")[0]


def find_capability(c: Config) -> tuple[int, int] | None:
    """The compute capability of the GPU; None without one, or if it is not known."""
    return read_capability(resolve_device(c.device)) if find_kind(c) == "cuda" else None


def is_planned_elsewhere(c: Config) -> bool:
    """True if the plan is for a GPU that this machine does not have."""
    return find_kind(c) == "cuda" and read_capability(resolve_device(c.device)) is None


def _is_compiled(c: Config) -> bool:
    return c.compile.name != "none" and not getattr(c.compile, "disable", False)


def lacks_device(c: Config, b: Backend) -> bool:
    """The backend does not run on this kind of device."""
    return find_kind(c) not in b.devices


def lacks_package(c: Config, b: Backend) -> bool:
    """The package of its kernels is not installed."""
    # A plan for another machine cannot know what is installed there.
    return bool(b.package) and not is_planned_elsewhere(c) and find_spec(b.package) is None


def lacks_capability(c: Config, b: Backend) -> bool:
    """The GPU is too old or too new for it, or of a generation that it has no kernel for."""
    capability = find_capability(c)
    if capability is None:
        return False
    if b.generations and capability not in b.generations:
        return True
    return (b.capability is not None and capability < b.capability) or (b.newest is not None and capability > b.newest)


def lacks_dtype(c: Config, b: Backend) -> bool:
    """It does not compute in this number format."""
    return find_kind(c) != "cpu" and (c.model.dtype.value not in b.dtypes or lacks_bfloat16(c, b))


def lacks_bfloat16(c: Config, b: Backend) -> bool:
    """It does not compute in bfloat16 on a GPU that is this old."""
    capability = find_capability(c)
    is_old = b.bfloat16 is not None and capability is not None and capability < b.bfloat16
    return is_old and c.model.dtype is Dtype.bfloat16


def lacks_masks(c: Config, b: Backend) -> bool:
    """It does not take the model's attention masks."""
    return not takes_masks(b.masks, c)


def lacks_heads(c: Config, b: Backend) -> bool:
    """It does not compute heads of the model's sizes."""
    return not takes_heads(b, c, find_capability(c))


def is_replaced(c: Config, b: Backend) -> bool:
    """torch.compile would put another kernel in its place."""
    return _is_compiled(c) and not b.survives_compile


def needs_compile(c: Config, b: Backend) -> bool:
    """Only torch.compile makes its kernel."""
    return b.dispatch == "flex" and not _is_compiled(c)


def breaks_graph(c: Config, b: Backend) -> bool:
    """It cannot be part of a full graph."""
    return b.package == "sageattention" and _is_compiled(c) and bool(getattr(c.compile, "fullgraph", False))


MISFITS: tuple[Callable[[Config, Backend], bool], ...] = (
    *(lacks_device, lacks_package, lacks_capability, lacks_dtype, lacks_masks, lacks_heads),
    *(is_replaced, needs_compile, breaks_graph),
)
"""What can keep a backend from computing a configuration."""


def fits_model(c: Config, b: Backend) -> bool:
    """True if a backend can compute the masks and heads of a configuration's model, whatever the device."""
    return takes_masks(b.masks, c) and takes_heads(b, c)


def find_misfits(c: Config, b: Backend) -> list[str]:
    """Names of the functions in `MISFITS` that are true of a backend; empty: it fits."""
    return [misfit.__name__ for misfit in MISFITS if misfit(c, b)]
