"""Memory: where weights lie while they are not used, how they are stored, and how images are decoded in parts.

All of it is diffusers' own; see https://huggingface.co/docs/diffusers/optimization/memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..config.schema import MemoryConfig
from ..errors import RunError
from ..registry import register


class Offload(Enum):
    """What moves between the device and the main memory."""

    none = "none"
    model = "model"
    """One whole component at a time is on the device."""
    group = "group"
    """A few blocks at a time: least memory, at the price of a transfer a step."""


class GroupType(Enum):
    block_level = "block_level"
    leaf_level = "leaf_level"


class Storage(Enum):
    """Number formats in which weights can be kept between uses."""

    float8_e4m3fn = "float8_e4m3fn"
    float8_e5m2 = "float8_e5m2"


@dataclass(kw_only=True)
class MemorySettings(MemoryConfig):
    """`memory=none` is all of this switched off."""

    name: str = "settings"
    offload: Offload = Offload.none
    group_type: GroupType = GroupType.block_level
    blocks_per_group: int = 1
    """Of `block_level`: more of them need more memory and fewer transfers."""
    use_stream: bool = False
    """Of `group`: the next group is fetched while one computes. CUDA only."""
    layerwise_casting: Storage | None = None
    """The denoiser's weights are kept in this format, and cast for each layer as it computes. Lossy."""
    vae_tiling: bool = False
    """Images are decoded in overlapping tiles: less memory for large ones, faint differences at the seams."""
    vae_slicing: bool = False
    """The images of a batch are decoded one after the other."""


NONE = MemorySettings()

register("memory", "settings", MemorySettings)(None)


def apply_memory(pipe: Any, memory: MemorySettings, device: str, dtype: Any) -> Any:
    """The pipeline on the device, or on its way there as `memory` says.

    Casting first, because offloading moves what is stored; https://github.com/huggingface/diffusers/pull/10503 names
    that order.

    Raises:
        RunError: the pipeline's VAE cannot do what is asked for.
    """
    import torch

    if memory.layerwise_casting:
        for name in denoiser_names(pipe):
            getattr(pipe, name).enable_layerwise_casting(
                storage_dtype=getattr(torch, memory.layerwise_casting.value), compute_dtype=dtype
            )
    for wanted, method in ((memory.vae_tiling, "enable_tiling"), (memory.vae_slicing, "enable_slicing")):
        if wanted:
            _enable(pipe.vae, method)
    if memory.offload is Offload.model:
        pipe.enable_model_cpu_offload(device=device)
        return pipe
    if memory.offload is Offload.group:
        by_block = memory.group_type is GroupType.block_level
        pipe.enable_group_offload(
            onload_device=torch.device(device),
            offload_type=memory.group_type.value,
            num_blocks_per_group=memory.blocks_per_group if by_block else None,
            use_stream=memory.use_stream,
        )
        return pipe
    return pipe.to(device)


def _enable(vae: Any, method: str) -> None:
    key = {"enable_tiling": "memory.vae_tiling", "enable_slicing": "memory.vae_slicing"}[method]
    try:
        if type(vae).__name__ == "AutoencoderTiny" and method == "enable_tiling":
            raise NotImplementedError  # its tiles do not meet for factors other than 8 (diffusers 0.42)
        getattr(vae, method)()
    except (AttributeError, NotImplementedError):
        raise RunError(f"{key}=true: {type(vae).__name__} cannot do it; leave it out") from None


def denoiser_names(pipe: Any) -> list[str]:
    """Names of the components that are called every step."""
    return [name for name in ("transformer", "transformer_2", "unet") if getattr(pipe, name, None) is not None]


def collect_evidence(pipe: Any) -> dict[str, Any] | None:
    """The record's `engaged.memory`: what is seen on the pipeline, not what was asked for. None for nothing."""
    import torch

    parts = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    found: dict[str, Any] = {
        "model_offload": sorted(name for name, part in parts.items() if hasattr(part, "_hf_hook")),
        "group_offload": sorted(name for name, part in parts.items() if _hooked(part, "group_offloading")),
        "layerwise_casting": {
            name: sum(p.numel() for p in part.parameters() if "float8" in str(p.dtype))
            for name, part in parts.items()
            if _hooked(part, "layerwise_casting")
        },
        "vae_tiling": bool(getattr(parts.get("vae"), "use_tiling", False)),
        "vae_slicing": bool(getattr(parts.get("vae"), "use_slicing", False)),
    }
    found = {name: value for name, value in found.items() if value}
    return found or None


def _hooked(part: Any, name: str) -> bool:
    """Whether a hook of diffusers of this name is on a module or one inside it."""
    registries = (getattr(module, "_diffusers_hook", None) for module in part.modules())
    return any(name in registry.hooks for registry in registries if registry is not None)
