"""The config group `accelerate`: switches of torch and diffusers that make a model faster without another algorithm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config.schema import AccelerateConfig
from ..models.family import Family
from ..registry import register

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


@dataclass(kw_only=True)
class SwitchSettings(AccelerateConfig):
    """Options of every `accelerate`; the defaults, `accelerate=none`, switch everything off."""

    name: str = "settings"
    fuse_qkv: bool = False
    """One matrix product for query, key and value instead of three."""
    channels_last: bool = False
    """Store images and kernels of U-Net and VAE with the channels last, as tensor cores want them."""
    tf32: bool = False
    """Multiply float32 matrices with the 10-bit mantissa of TF32. CUDA only."""
    fp16_accumulation: bool = False
    """Add up products of float16 in float16. CUDA only."""
    tiny_vae: str | None = None
    """Decode with a tiny autoencoder instead: a hub id or folder of an `AutoencoderTiny`, such as madebyollin/taef1."""


register("accelerate", "settings", SwitchSettings)(None)

MODULE_SWITCHES = ("fuse_qkv", "channels_last", "tiny_vae")
"""Switches that change modules or weights; the others are settings of torch."""


def apply_switches(pipe: DiffusionPipeline, family: Family, switches: SwitchSettings) -> DiffusionPipeline:
    """Changes the modules of a pipeline as the switches say."""
    return pipe


@contextmanager
def use_switches(switches: SwitchSettings, device: str) -> Iterator[None]:
    """Sets the process-wide switches of torch, and sets them back at the end."""
    yield


def collect_evidence(pipe: DiffusionPipeline, switches: SwitchSettings) -> dict[str, Any] | None:
    """Evidence for the record's `engaged.accelerate`, read from the pipeline's modules. None without switches."""
    return None
