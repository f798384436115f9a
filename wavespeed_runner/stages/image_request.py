"""Requests to the denoising stage: one for each image, with its seed and the image that it starts from, if any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..artifacts import SEEDS, Embeddings, Images, LatentGrid, Pipeline, Sample
from ..config.denoise_options import DenoiseOptions
from ..errors import RunError
from ..models.family import infer_task, starts_from_image

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """One image (or video) to be denoised."""

    sample: int
    """Index of the sample that it belongs to."""
    embeddings: dict[str, torch.Tensor]
    """Text embeddings on the pipeline's device, each with a batch size of 1."""
    seed: int
    start: dict[str, Any]
    """What it starts from, as values of `CallInputs`; empty: pure noise."""
    prompt: str = ""
    read: dict[str, Any] | None = None
    """What was read of its prompts, where they were weighted or read in chunks."""

    @property
    def evidence(self) -> dict[str, Any]:
        """Evidence of `prompts.weighting` and `prompts.chunked`; nothing where both are off."""
        return {"prompts": self.read} if self.read else {}

    @property
    def batch_key(self) -> str:
        """Equal for requests that can be denoised in one batch: same shapes, same start size, same strength."""
        shapes = {name: (tuple(tensor.shape), str(tensor.dtype)) for name, tensor in self.embeddings.items()}
        # `size` is an attribute of PIL images and a method of tensors.
        images = {name: getattr(self.start.get(name), "size", None) for name in ("image", "mask")}
        images = {name: size() if callable(size) else size for name, size in images.items()}
        values = {name: value for name, value in self.start.items() if name not in images}
        return repr((sorted(shapes.items()), images, sorted(values.items())))


def build_requests(
    options: DenoiseOptions,
    index: int,
    *,
    pipeline: Pipeline,
    embeddings: Embeddings,
    sample: Sample,
    **inputs: Any,
) -> list[ImageRequest]:
    """Builds the requests of one sample: one for each image that it starts from, or a single one from pure noise.

    Args:
        options: of the denoising stage.
        index: of the sample among those denoised together.
        pipeline: to whose device the embeddings are moved.
        embeddings: of the sample's prompt.
        sample: its seed is that of the first request; the seeds of the others count up from there, and after the
            largest one begin at 0.
        inputs: the stage's optional inputs `image`, `latents` and `mask`.
    """
    tensors = {name: tensor.to(pipeline.device) for name, tensor in embeddings.tensors.items()}
    return [
        ImageRequest(
            sample=index,
            embeddings=tensors,
            seed=(sample.seed + offset) % SEEDS,
            start=start,
            prompt=sample.prompt,
            read=embeddings.data.get("read"),
        )
        for offset, start in enumerate(_find_starts(options, pipeline, **inputs))
    ]


def _find_starts(
    options: DenoiseOptions,
    pipeline: Pipeline,
    image: Images | None = None,
    latents: LatentGrid | None = None,
    mask: Images | None = None,
) -> list[dict[str, Any]]:
    """What each generation starts from, as values of `CallInputs`: one for every image; a single empty one without."""
    inputs: dict[str, Any] = {name: value for name, value in (("image", image), ("latents", latents)) if value}
    if len(inputs) > 1:
        raise RunError("denoise: both image and latents are wired to it, but it can start from only one of them")
    if not inputs:
        return [{}]
    task = infer_task(pipeline.family.kind, inputs | ({"mask": mask} if mask else {}))
    start: dict[str, Any] = {"task": task}
    if starts_from_image(pipeline.family, task):
        start["strength"] = options.strength
    if latents:
        size = latents.data["size"]
        return [{**start, "image": tensor[None].to(pipeline.device), **size} for tensor in latents.tensors["latents"]]
    pil_images = image.as_pil() if image else []
    if task == "image_to_video":
        return [{"task": task, "image": pil_image} for pil_image in pil_images]
    masks = mask.as_pil() if mask else [None]
    masks = masks * len(pil_images) if len(masks) == 1 else masks
    return [
        {**start, "image": pil_image, "mask": pil_mask} | {"width": pil_image.width, "height": pil_image.height}
        for pil_image, pil_mask in zip(pil_images, masks, strict=True)
    ]
