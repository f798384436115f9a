"""FLUX.1-Kontext, run with diffusers' FluxKontextPipeline: changes an image as the prompt says.

The architecture is that of FLUX.1-dev. The image is not noised: its tokens stand behind those of the noise in every
call of the denoiser, so no `strength` acts. Without an image it makes one from the prompt alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...config.schema import Guidance, Init
from ...registry import register
from ..family import CallInputs, Family, allow_guidance
from . import flux

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor


@dataclass(kw_only=True)
class FluxKontextConfig(flux.FluxConfig):
    """Options of FLUX.1-Kontext-dev."""

    name: str = "flux_kontext"
    strength: float = 1.0
    """Of inpainting alone, as in `flux`; changing a whole image has none."""
    trained_sizes: bool | None = None
    """Scale the image that is read to the nearest of the 17 sizes that the model was trained with, each of about a
    million pixels, whatever the size of the result; inpainting does not. False: it is read at the size of the result.
    Null: true, but false with `init=tiny`."""

    def __post_init__(self) -> None:
        allow_guidance(self, Guidance.embedded)
        super().__post_init__()


def build_pipeline(model: FluxKontextConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `FluxKontextPipeline` with random weights."""
    specs = flux.TINY if model.init is Init.tiny else flux.FULL
    return flux.build_random(model, dtype, device, "FluxKontextPipeline", specs)


def build_arguments(model: FluxKontextConfig, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """As for FLUX.1, and what keeps the pipeline to the size of the run: it scales all sizes to a number of pixels."""
    sizes = {"max_area": inputs.width * inputs.height}
    # Inpainting would make the result as large as what it reads.
    sizes["_auto_resize"] = uses_trained_sizes(model) and inputs.task != "inpaint"
    return flux.build_arguments(model, embeddings, inputs) | sizes


def uses_trained_sizes(model: FluxKontextConfig) -> bool:
    """Whether images are scaled to a size of training before they are read."""
    return model.init is not Init.tiny if model.trained_sizes is None else model.trained_sizes


def choose_size(model: FluxKontextConfig, image: tuple[int, int]) -> tuple[int, int] | None:
    """The size of training that is nearest to the image's shape, as diffusers chooses it; None where they are off."""
    if not uses_trained_sizes(model):
        return None
    ratio = image[0] / image[1]
    return min(TRAINED_SIZES, key=lambda size: (abs(ratio - size[0] / size[1]), size))


_NARROW = ((672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184), (944, 1104))
TRAINED_SIZES = (*_NARROW, (1024, 1024), *((height, width) for width, height in _NARROW))
"""Widths and heights: `PREFERRED_KONTEXT_RESOLUTIONS` of https://github.com/black-forest-labs/flux and of diffusers."""

FLUX_KONTEXT = register("model", "flux_kontext", FluxKontextConfig)(
    Family(
        tasks={
            "image_to_image": "FluxKontextPipeline",
            "text_to_image": "FluxKontextPipeline",
            "inpaint": "FluxKontextInpaintPipeline",
        },
        build=build_pipeline,
        check=flux.check,
        encode=flux.encode,
        build_arguments=build_arguments,
        unpack_latents=flux.unpack_latents,
        decode=flux.decode,
        published_repo=lambda model: "black-forest-labs/FLUX.1-Kontext-dev",
        single_file_prefixes=flux.WHOLE_FILE,
        own_sampler=lambda model: "euler",
        adapters=("lora", "textual_inversion"),
        beside_noise=("image_to_image",),
        choose_size=choose_size,
        blocks=flux.BLOCKS,
    )
)
