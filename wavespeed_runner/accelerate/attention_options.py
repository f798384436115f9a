"""Typed options of the config group `attention`, and the backends that it names."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.schema import AttentionConfig
from ..registry import register


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One attention backend of diffusers' dispatcher, and what it needs."""

    dispatch: str
    """Its name there, `diffusers.models.attention_dispatch.AttentionBackendName`."""
    package: str | None = None
    """The module that holds its kernels; None: torch has them."""
    cpu: bool = False
    """True if it runs on a CPU."""
    capability: tuple[int, int] | None = None
    """Lowest CUDA compute capability."""
    half: bool = True
    """True if it takes float16 and bfloat16 only."""
    masks: bool = True
    """True if it takes an attention mask."""


@dataclass(kw_only=True)
class NoAttention(AttentionConfig):
    """The model's own attention: what diffusers chooses, normally torch's `scaled_dot_product_attention`."""

    name: str = "none"


@dataclass(kw_only=True)
class AttentionOptions(AttentionConfig):
    """A backend has no options of its own."""


BACKENDS = {
    "native": Backend(dispatch="native", cpu=True, half=False),
}
"""Name in a config -> backend."""

register("attention", "none", NoAttention)(None)
for _name, _backend in BACKENDS.items():
    register("attention", _name, AttentionOptions)(_backend)
