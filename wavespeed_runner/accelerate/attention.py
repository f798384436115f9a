"""Attention backends: which kernel computes the attention of a pipeline's denoiser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..config.schema import AttentionConfig
from ..models.family import Family

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def apply_attention(pipe: DiffusionPipeline, family: Family, attention: AttentionConfig) -> None:
    """Sets the backend on the attention layers of this pipeline's denoisers, and on no others."""


def collect_evidence(pipe: DiffusionPipeline, attention: AttentionConfig) -> dict[str, Any] | None:
    """Evidence for the record's `engaged.attention`, read from the pipeline's modules. None without a backend."""
    return None
