"""The stages `decode` and `decode_video`: latents to images or videos."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..accelerate.parallel.collectives import take_counts
from ..accelerate.parallel.tiles import KIND
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


def decodes_together(inputs: Iterable[Any]) -> bool:
    """True if one of these inputs is a pipeline whose tiles are decoded by all ranks."""
    return any(isinstance(value, Pipeline) and value.parallel and value.parallel.vae for value in inputs)


@stage("decode", options=DecodeOptions, collective=decodes_together)
def decode(options: DecodeOptions, *, pipeline: Pipeline, latents: Latents) -> Images:
    """Decodes latents to images with the model's VAE."""
    images, tiles = decode_with_tiles(pipeline, latents)
    return Images(tensors={"images": images}, data=tiles)


@dataclass(kw_only=True)
class DecodeVideoOptions:
    """Options of `decode_video`."""

    fps: int = top_level("model.fps")
    """Frames per second at which the video is played."""

    def __post_init__(self) -> None:
        """Raises ConfigError unless `fps` is 1 to 240."""
        if not 1 <= self.fps <= 240:
            raise ConfigError(f"fps={self.fps}: 1 to 240 is needed")


@stage("decode_video", options=DecodeVideoOptions, collective=decodes_together)
def decode_video(options: DecodeVideoOptions, *, pipeline: Pipeline, latents: Latents) -> Videos:
    """Decodes latents to the frames of videos with the model's VAE."""
    frames, tiles = decode_with_tiles(pipeline, latents)
    return Videos(tensors={"frames": frames}, data={"fps": options.fps, **tiles})


def decode_latents(pipeline: Pipeline, latents: Latents) -> NDArray[np.uint8]:
    """Decodes latents to pixels, see `decode_with_tiles`."""
    return decode_with_tiles(pipeline, latents)[0]


def decode_with_tiles(pipeline: Pipeline, latents: Latents) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Decodes latents one image at a time, so that an image does not depend on the others in its batch.

    Returns:
        uint8 (n, height, width, 3), or (n, frames, height, width, 3) for videos; empty without latents. And with
        `parallel.vae`, under `tiles`, how many each rank has decoded (`ranks`), and the messages of this one.
    """
    import numpy as np
    import torch

    size = latents.data["size"]
    count = len(latents.tensors["latents"])
    if not count:
        return np.empty((0, size["height"], size["width"], 3), np.uint8), {}
    images = []
    divided = pipeline.parallel.divide_tiles(pipeline.pipe.vae) if decodes_together([pipeline]) else nullcontext()
    with torch.inference_mode(), pipeline.running(), pipeline.watch_compiler(), divided as tiles:
        for index in range(count):
            tensors = {name: tensor[index : index + 1].to(pipeline.device) for name, tensor in latents.tensors.items()}
            images.append(pipeline.family.decode(pipeline.pipe, tensors, **size))
    pipeline.pipe.maybe_free_model_hooks()
    return np.concatenate(images), _describe_tiles(tiles.counts) if tiles else {}


def _describe_tiles(counts: list[int]) -> dict[str, Any]:
    return {"tiles": {"ranks": counts, **take_counts().get(KIND, {})}}
