"""The config group `accelerate`: switches of torch and diffusers that make a model faster without another algorithm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config.schema import AccelerateConfig
from ..errors import RunError
from ..models.family import Family
from ..models.weights.identity import identify_weights
from ..registry import register
from .memory import denoiser_names
from .tiny_vae import put_tiny_vae

if TYPE_CHECKING:
    import torch
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

TORCH_SWITCHES = {"tf32": "allow_tf32", "fp16_accumulation": "allow_fp16_accumulation"}
"""Switch -> attribute of `torch.backends.cuda.matmul`."""

FUSES_QKV = (
    *("chroma", "cogvideox", "cogvideox_i2v", "flux", "flux_fill", "flux_kontext", "flux2", "flux2_klein"),
    *("pixart_sigma", "sd", "sdxl", "wan", "wan_i2v", "wan22", "wan22_5b", "wan22_i2v"),
)
"""Families whose projections diffusers fuses, with the same result. Of the others it fuses none, or fused ones that it
never uses (LTX-Video), or leaves out the norms of queries and keys, which changes the result (Stable Diffusion 3.5)."""


def identify_switches(switches: SwitchSettings) -> list[str]:
    """Identifies the weights that a switch adds, by their content."""
    return [f"tiny VAE {identify_weights(switches.tiny_vae, None)}"] if switches.tiny_vae else []


def list_module_changes(switches: SwitchSettings) -> dict[str, Any]:
    """The switches that change modules or weights and are on, with their values."""
    return {name: value for name in MODULE_SWITCHES if (value := getattr(switches, name))}


def apply_switches(pipe: DiffusionPipeline, family: Family, switches: SwitchSettings) -> DiffusionPipeline:
    """Changes the modules of a pipeline as the switches say.

    Raises:
        RunError: a switch has no effect on this pipeline, or the tiny autoencoder cannot be loaded or does not fit.
    """
    if switches.tiny_vae:
        put_tiny_vae(pipe, switches.tiny_vae)
    if switches.fuse_qkv:
        _fuse_qkv(pipe)
    if switches.channels_last:
        import torch

        for module in _list_convolutional(pipe).values():
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return pipe


def _fuse_qkv(pipe: DiffusionPipeline) -> None:
    """Fuses the projections of the denoisers, and of the VAE where diffusers can."""
    for name in (*denoiser_names(pipe), "vae"):
        if fuse := getattr(getattr(pipe, name, None), "fuse_qkv_projections", None):
            fuse()
    if not any(_count_fused(getattr(pipe, name)) for name in denoiser_names(pipe)):
        raise RunError(
            f"accelerate.fuse_qkv=true: diffusers fused no layer of {type(pipe).__name__}; "
            "set accelerate.fuse_qkv=false"
        )


def _count_fused(module: torch.nn.Module) -> int:
    """Attention layers whose projections are fused."""
    return sum(
        bool(getattr(layer, "fused_projections", False)) and (hasattr(layer, "to_qkv") or hasattr(layer, "to_kv"))
        for layer in module.modules()
    )


def _list_convolutional(pipe: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    """The components of a pipeline that are made of convolutions."""
    modules = {name: getattr(pipe, name, None) for name in ("unet", "vae")}
    return {name: module for name, module in modules.items() if module is not None}


@contextmanager
def use_switches(switches: SwitchSettings, device: str) -> Iterator[None]:
    """Sets the process-wide switches of torch, and sets them back at the end."""
    wanted = [attribute for switch, attribute in TORCH_SWITCHES.items() if getattr(switches, switch)]
    if not wanted:
        yield
        return
    import torch

    matmul = torch.backends.cuda.matmul
    before = {attribute: getattr(matmul, attribute) for attribute in wanted}
    precision = matmul.fp32_precision
    try:
        for attribute in wanted:
            setattr(matmul, attribute, True)
        yield
    finally:
        for attribute, value in before.items():
            setattr(matmul, attribute, value)
        # Setting allow_tf32 back leaves "ieee" here, where nobody had chosen anything.
        matmul.fp32_precision = precision


def collect_evidence(pipe: DiffusionPipeline, switches: SwitchSettings) -> dict[str, Any] | None:
    """Evidence for the record's `engaged.accelerate`, read from the pipeline's modules. None without switches.

    The switches of torch are read back while they are set.
    """
    evidence: dict[str, Any] = {}
    if switches.fuse_qkv:
        parts = {name: getattr(pipe, name, None) for name in (*denoiser_names(pipe), "vae")}
        counts = {name: _count_fused(module) for name, module in parts.items() if module is not None}
        evidence["fuse_qkv"] = {name: count for name, count in counts.items() if count}
    if switches.channels_last:
        convolutional = _list_convolutional(pipe).items()
        evidence["channels_last"] = {name: _describe_layout(module) for name, module in convolutional}
    if switches.tiny_vae:
        weights = sum(weight.numel() for weight in pipe.vae.parameters())
        evidence["tiny_vae"] = {"class": type(pipe.vae).__name__, "parameters": weights}
    return {**evidence, **_read_torch_switches(switches)} or None


def _describe_layout(module: torch.nn.Module) -> dict[str, int]:
    """How many kernels of convolutions are stored with the channels last, and how many there are."""
    import torch

    kernels = [weight for weight in module.parameters() if weight.dim() == 4]
    last = [kernel for kernel in kernels if kernel.is_contiguous(memory_format=torch.channels_last)]
    return {"channels_last": len(last), "kernels": len(kernels)}


def _read_torch_switches(switches: SwitchSettings) -> dict[str, bool]:
    """Torch's own answer for each of its switches that are on."""
    wanted = {switch: attribute for switch, attribute in TORCH_SWITCHES.items() if getattr(switches, switch)}
    if not wanted:
        return {}
    import torch

    with use_switches(switches, ""):
        return {switch: bool(getattr(torch.backends.cuda.matmul, attribute)) for switch, attribute in wanted.items()}
