"""Compilation with torch.compile: the repeated blocks of a denoiser one by one, or whole modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..config.schema import CompileConfig
from ..models.family import Family
from .compile_options import CompileOptions

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def apply_compile(pipe: DiffusionPipeline, family: Family, options: CompileOptions) -> Any:
    """Prepares modules of the pipeline for compilation, which happens in their first call."""
    return None


@contextmanager
def use_compiler(options: CompileOptions, outputs: str, device: str) -> Iterator[None]:
    """Sets up the compiler while the pipeline computes: its cache, limits and counters."""
    yield


def collect_evidence(pipe: DiffusionPipeline, options: CompileConfig) -> dict[str, Any] | None:
    """Evidence for the record's `engaged.compile`, read from the pipeline's modules. None without compilation."""
    return None
