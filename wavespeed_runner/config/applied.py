"""The config groups that are applied to a loaded model: what all options of each have.

Their own options stand beside the code that applies them, in `accelerate/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING


@dataclass(kw_only=True)
class AdaptersConfig:
    """Options of every kind of adapter: small weights loaded on top of the model's, such as LoRA."""

    name: str = MISSING
    path: Any = MISSING
    """A .safetensors file, `pkg://package/file`, or a hub id; or a list of them."""


@dataclass(kw_only=True)
class MemoryConfig:
    """Options that save memory: where weights are kept, and how images are decoded."""

    name: str = MISSING


@dataclass(kw_only=True)
class QuantConfig:
    """Options of quantization: weights, and for some schemes activations, in 8 or 4 bits."""

    name: str = MISSING


@dataclass(kw_only=True)
class AttentionConfig:
    """Options of the attention backend: the kernel that computes scaled dot-product attention."""

    name: str = MISSING


@dataclass(kw_only=True)
class CompileConfig:
    """Options of compilation with torch.compile."""

    name: str = MISSING


@dataclass(kw_only=True)
class AccelerateConfig:
    """Switches of torch and diffusers that make a model faster without another algorithm."""

    name: str = MISSING


@dataclass(kw_only=True)
class ParallelConfig:
    """Options of parallelism: how many ranks, and what is divided among them."""

    name: str = MISSING
