"""The stages `decode` and `decode_video`: latents to images or videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..artifacts import Images, Latents, Pipeline, Videos
from ..config.schema import top_level
from ..errors import ConfigError
from .interface import stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(kw_only=True)
class DecodeOptions:
    """`decode` has no options: the image size comes with the latents."""


@stage("decode", options=DecodeOptions)
def decode(options: DecodeOptions, *, pipeline: Pipeline, latents: Latents) -> Images:
    """Decodes latents to images with the model's VAE."""
    return Images(tensors={"images": decode_latents(pipeline, latents)})


@dataclass(kw_only=True)
class DecodeVideoOptions:
    """Options of `decode_video`."""

    fps: int = top_level("model.fps")
    """Frames per second at which the video is played."""

    def __post_init__(self) -> None:
        """Raises ConfigError unless `fps` is 1 to 240."""
        if not 1 <= self.fps <= 240:
            raise ConfigError(f"fps={self.fps}: 1 to 240 is needed")


@stage("decode_video", options=DecodeVideoOptions)
def decode_video(options: DecodeVideoOptions, *, pipeline: Pipeline, latents: Latents) -> Videos:
    """Decodes latents to the frames of videos with the model's VAE."""
    return Videos(tensors={"frames": decode_latents(pipeline, latents)}, data={"fps": options.fps})


def decode_latents(pipeline: Pipeline, latents: Latents) -> NDArray[np.uint8]:
    """Decodes latents one image at a time, so that an image does not depend on the others in its batch.

    Returns:
        uint8 (n, height, width, 3), or (n, frames, height, width, 3) for videos; empty without latents.
    """
    import numpy as np
    import torch

    size = latents.data["size"]
    count = len(latents.tensors["latents"])
    if not count:
        return np.empty((0, size["height"], size["width"], 3), np.uint8)
    images = []
    with torch.inference_mode(), pipeline.running(), pipeline.watch_compiler():
        for index in range(count):
            tensors = {name: tensor[index : index + 1].to(pipeline.device) for name, tensor in latents.tensors.items()}
            images.append(pipeline.family.decode(pipeline.pipe, tensors, **size))
    pipeline.pipe.maybe_free_model_hooks()
    return np.concatenate(images)
