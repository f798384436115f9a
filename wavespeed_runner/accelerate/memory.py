"""Memory savers: offloading, layerwise casting, and tiled or sliced decoding, all as diffusers implements them.

See https://huggingface.co/docs/diffusers/optimization/memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..config.schema import MemoryConfig
from ..errors import RunError
from ..registry import register

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


class Offload(Enum):
    """What is moved between the device and main memory."""

    none = "none"
    model = "model"
    """One whole component at a time is on the device."""
    group = "group"
    """A few blocks at a time: the least memory, at the price of a transfer in each step."""


class GroupType(Enum):
    """What group offloading moves at a time: blocks, or single layers."""

    block_level = "block_level"
    leaf_level = "leaf_level"


class Storage(Enum):
    """Number formats in which weights can be stored while they are not used."""

    float8_e4m3fn = "float8_e4m3fn"
    float8_e5m2 = "float8_e5m2"


@dataclass(kw_only=True)
class MemorySettings(MemoryConfig):
    """Options of every `memory`; the defaults, `memory=none`, switch everything off."""

    name: str = "settings"
    offload: Offload = Offload.none
    group_type: GroupType = GroupType.block_level
    blocks_per_group: int = 1
    """For `block_level`: more blocks need more memory and fewer transfers."""
    use_stream: bool = False
    """For `group`: fetch the next group while one computes. CUDA only."""
    layerwise_casting: Storage | None = None
    """Store the denoiser's weights in this format and cast each layer's as it computes. Lossy."""
    vae_tiling: bool = False
    """Decode images in overlapping tiles: less memory for large images, faint differences at the seams."""
    vae_slicing: bool = False
    """Decode the images of a batch one after the other."""


NONE = MemorySettings()

register("memory", "settings", MemorySettings)(None)


def apply_memory(pipe: DiffusionPipeline, memory: MemorySettings, device: str, dtype: torch.dtype) -> DiffusionPipeline:
    """Moves the pipeline to the device, with the memory savers of the settings.

    Casting comes first, because offloading moves the weights as they are stored; see the order in
    https://github.com/huggingface/diffusers/pull/10503.

    Args:
        pipe: a pipeline in main memory.
        memory: the settings.
        device: such as `cuda` or `cpu`.
        dtype: in which the denoiser computes.

    Raises:
        RunError: the pipeline's VAE does not support tiling or slicing.
    """
    import torch

    cast_and_tile(pipe, memory, dtype)
    if memory.offload is Offload.model:
        pipe.enable_model_cpu_offload(device=device)
        return pipe
    if memory.offload is Offload.group:
        _offload_groups(pipe, memory, torch.device(device))
        return pipe
    return pipe.to(device)


def _offload_groups(pipe: DiffusionPipeline, memory: MemorySettings, device: torch.device) -> None:
    """Offloads every component in groups: those of one that cannot be divided so finely by its blocks."""
    import torch
    from diffusers.hooks import apply_group_offloading

    by_block = {"offload_type": "block_level", "num_blocks_per_group": memory.blocks_per_group}
    shared: dict[str, Any] = {"onload_device": device, "use_stream": memory.use_stream}
    if memory.group_type is GroupType.block_level:
        if getattr(pipe, "vae", None) is not None:
            _group_by_halves(pipe.vae)
        pipe.enable_group_offload(**shared, **by_block)
        return
    # torch's own attention layer reads the weights of a layer inside it without calling that.
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    coarse = [
        n for n, part in modules.items() if any(isinstance(m, torch.nn.MultiheadAttention) for m in part.modules())
    ]
    pipe.enable_group_offload(**shared, offload_type="leaf_level", exclude_modules=coarse)
    for name in coarse:
        apply_group_offloading(modules[name], **shared, **by_block)


def _group_by_halves(vae: torch.nn.Module) -> None:
    """Has the encoder and the decoder of an autoencoder fetch their weights themselves.

    Pipelines call `vae.decode`, not `vae.forward`, which is what fetches the weights outside of lists of blocks; on a
    GPU decoding then fails. diffusers 0.42 has this list for two of its autoencoders.
    """
    from torch.nn import ModuleList, Sequential

    if not hasattr(vae, "_group_offload_block_modules"):
        parts = [name for name, part in vae.named_children() if not isinstance(part, ModuleList | Sequential)]
        vars(vae)["_group_offload_block_modules"] = parts


def cast_and_tile(pipe: DiffusionPipeline, memory: MemorySettings, dtype: torch.dtype) -> None:
    """Sets those of the memory savers that do not move anything: layerwise casting, tiled and sliced decoding.

    Raises:
        RunError: the pipeline's VAE does not support tiling or slicing.
    """
    import torch

    if memory.layerwise_casting:
        for name in denoiser_names(pipe):
            getattr(pipe, name).enable_layerwise_casting(
                storage_dtype=getattr(torch, memory.layerwise_casting.value), compute_dtype=dtype
            )
    for enabled, method in ((memory.vae_tiling, "enable_tiling"), (memory.vae_slicing, "enable_slicing")):
        if enabled:
            _enable(pipe.vae, method)


def _enable(vae: torch.nn.Module, method: str) -> None:
    """Calls a method of the VAE.

    Raises:
        RunError: it has none, or the method does not work.
    """
    key = {"enable_tiling": "memory.vae_tiling", "enable_slicing": "memory.vae_slicing"}[method]
    try:
        if type(vae).__name__ == "AutoencoderTiny" and method == "enable_tiling":
            raise NotImplementedError  # its tiles only fit together for a factor of 8 (diffusers 0.42)
        getattr(vae, method)()
    except (AttributeError, NotImplementedError):
        raise RunError(f"{key}=true: {type(vae).__name__} cannot do it; leave this option out") from None


def denoiser_names(pipe: DiffusionPipeline) -> list[str]:
    """Names of the components that are called in every step."""
    return [name for name in ("transformer", "transformer_2", "unet") if getattr(pipe, name, None) is not None]


def collect_evidence(pipe: DiffusionPipeline) -> dict[str, Any] | None:
    """Evidence for the record's `engaged.memory`, read from the pipeline itself. None without memory savers."""
    import torch

    modules = {name: module for name, module in pipe.components.items() if isinstance(module, torch.nn.Module)}
    evidence: dict[str, Any] = {
        "model_offload": sorted(name for name, module in modules.items() if hasattr(module, "_hf_hook")),
        "group_offload": sorted(name for name, module in modules.items() if _has_hook(module, "group_offloading")),
        "layerwise_casting": {
            name: sum(p.numel() for p in module.parameters() if "float8" in str(p.dtype))
            for name, module in modules.items()
            if _has_hook(module, "layerwise_casting")
        },
        "vae_tiling": bool(getattr(modules.get("vae"), "use_tiling", False)),
        "vae_slicing": bool(getattr(modules.get("vae"), "use_slicing", False)),
    }
    evidence = {name: value for name, value in evidence.items() if value}
    return evidence or None


def _has_hook(component: torch.nn.Module, name: str) -> bool:
    """Whether diffusers has put a hook of this name on a component or on a module inside it."""
    registries = (getattr(module, "_diffusers_hook", None) for module in component.modules())
    return any(name in registry.hooks for registry in registries if registry is not None)
