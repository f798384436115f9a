"""What the attention of each model family is like, as far as a backend may not fit it: masks and sizes of heads.

Held to the models themselves by tests/accelerate/test_attention_families.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..config.schema import Config, Init, ModelConfig
from .attention_options import Backend, Masks


@dataclass(frozen=True, kw_only=True)
class FamilyAttention:
    """The attention of a family's denoiser."""

    heads: tuple[int, ...]
    """Sizes of heads in the published models."""
    masks: Masks = Masks.none
    """The masks that it makes."""
    only_in_batches: bool = False
    """True if masks appear only where prompts of different lengths are denoised together."""
    routed: bool = False
    """True if the processors call torch instead of diffusers' dispatcher: they are wrapped, see `attention_routing`."""
    linear: bool = False
    """True if some layers compute linear attention, which has no scores and no backends."""


_PLAIN = FamilyAttention(heads=(128,))
_PADDED = FamilyAttention(heads=(128,), masks=Masks.padding)
_HUNYUAN = FamilyAttention(heads=(128,), masks=Masks.padding, routed=True)

FAMILY_ATTENTION = {
    "chroma": FamilyAttention(heads=(128,), masks=Masks.additive),
    "cogvideox": FamilyAttention(heads=(64,), routed=True),
    "cogvideox_i2v": FamilyAttention(heads=(64,), routed=True),
    "flux": _PLAIN,
    "flux_fill": _PLAIN,
    "flux_kontext": _PLAIN,
    "flux2": _PLAIN,
    "flux2_klein": _PLAIN,
    "hidream": FamilyAttention(heads=(128,), routed=True),
    "hunyuan_video": _HUNYUAN,
    "hunyuan_video_i2v": _HUNYUAN,
    "hunyuan_video15": _HUNYUAN,
    "hunyuan_video15_i2v": _HUNYUAN,
    "ltx2": FamilyAttention(heads=(64, 128), masks=Masks.additive),
    "ltx_video": FamilyAttention(heads=(64,), masks=Masks.additive),
    "lumina2": FamilyAttention(heads=(96,), masks=Masks.padding, routed=True),
    "pixart_sigma": FamilyAttention(heads=(72,), masks=Masks.additive, routed=True),
    "qwen_image": FamilyAttention(heads=(128,), masks=Masks.boolean, only_in_batches=True),
    "qwen_image_edit": FamilyAttention(heads=(128,), masks=Masks.boolean, only_in_batches=True),
    "qwen_image_edit_plus": _PLAIN,
    "sana": FamilyAttention(heads=(112,), masks=Masks.additive, routed=True, linear=True),
    "sd": FamilyAttention(heads=(40, 80, 160), routed=True),
    "sd:sd21": FamilyAttention(heads=(64,), routed=True),
    "sd3": FamilyAttention(heads=(64,), routed=True),
    "sdxl": FamilyAttention(heads=(64,), routed=True),
    "wan": _PLAIN,
    "wan_i2v": _PLAIN,
    "wan22": _PLAIN,
    "wan22_5b": _PLAIN,
    "wan22_i2v": _PLAIN,
    "z_image": _PADDED,
}
"""Family, or family:variant, -> its attention. Of `generic` pipelines, and of plugins' families, nothing is known."""

_TAKEN_BY = {
    Masks.none: tuple(Masks),
    Masks.additive: (Masks.any, Masks.additive),
    Masks.boolean: (Masks.any, Masks.boolean),
    Masks.padding: (Masks.any, Masks.boolean, Masks.padding),
}
"""Masks that a family makes -> backends that take them, by their `masks`."""


def find_attention(model: ModelConfig) -> FamilyAttention | None:
    """What is known of a model's attention; None: nothing."""
    variant = getattr(getattr(model, "variant", None), "value", "")
    return FAMILY_ATTENTION.get(f"{model.name}:{variant}") or FAMILY_ATTENTION.get(model.name)


def is_shrunk(model: ModelConfig) -> bool:
    """True for the weights that come with a package: a family's architecture with smaller heads of its own."""
    return model.init is Init.pretrained and model.repo.startswith("pkg://")


def takes_masks(masks: Masks, config: Config) -> bool:
    """True if a backend that takes such masks can compute the attention of a configuration's model."""
    family = find_attention(config.model)
    if family is None or (family.only_in_batches and config.batch_size == 1):
        return True
    return masks in _TAKEN_BY[family.masks]


def find_largest_head(backend: Backend, capability: tuple[int, int] | None) -> int | None:
    """The largest size of a head that a backend computes; None: any.

    capability: of the GPU; None: any GPU that takes the largest.
    """
    larger = [size for place, size in backend.largest_heads if capability in (None, place)]
    return max(larger, default=backend.largest_head)


def takes_heads(backend: Backend, config: Config, capability: tuple[int, int] | None = None) -> bool:
    """True if a backend can compute heads of the sizes that a configuration's model has, on such a GPU."""
    family = find_attention(config.model)
    if family is None or is_shrunk(config.model):
        return True
    if config.model.init is Init.tiny:  # a few channels a head, which every kernel pads but those made for two sizes
        return not backend.head_sizes
    largest = find_largest_head(backend, capability)
    too_large = largest is not None and max(family.heads) > largest
    return not too_large and (not backend.head_sizes or set(family.heads) <= set(backend.head_sizes))
