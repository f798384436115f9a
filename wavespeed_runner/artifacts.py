"""What flows between stages. A stage's annotations name these types, and the plan checks that they meet.

A stored value is tensors plus JSON data, so that one codec (`store.py` keeps the bytes) serves every stage.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

V = TypeVar("V", bound="Value")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image that is asked for. The graph's source: every graph has a node `sample` of this type."""

    prompt: str
    negative_prompt: str = ""
    seed: int = 0


@dataclass(kw_only=True)
class Pipeline:
    """A loaded diffusers pipeline. Lives in the process only."""

    pipe: Any
    model: Any
    """Its `ModelConfig`."""
    family: Any
    """Its `models.family.Family`."""
    device: str
    engaged: dict[str, Any] = field(default_factory=dict)
    """Evidence of what was done to it: the record's `engaged`."""
    warmed: dict[str, Any] = field(default_factory=dict)
    """Settings that have run once in this process, so that their next run may be timed -> the `caching.flops.Flops`
    of a generation."""


class Value:
    """Tensors by name, and JSON data. Subclasses say what they are.

    Read back from the store, the tensors are decoded when first asked for: a run whose results are all there needs
    the data of its latents, but neither their tensors nor torch.
    """

    framework: ClassVar[str] = "pt"
    """`pt`: torch tensors; `np`: numpy arrays."""

    def __init__(self, *, tensors: dict[str, Any] | None = None, data: dict[str, Any] | None = None, raw: bytes = b""):
        self.data = data or {}
        self._tensors, self._raw = tensors, raw

    @property
    def tensors(self) -> dict[str, Any]:
        if self._tensors is None:
            self._tensors = _codec(self.framework).load(self._raw)
        return self._tensors

    def to_bytes(self) -> bytes:
        """Safetensors bytes; the data rides in the header."""
        tensors = self.tensors
        if self.framework == "pt":
            # Copies, because safetensors refuses two names for one tensor.
            tensors = {n: tensor.detach().to("cpu", copy=True).contiguous() for n, tensor in tensors.items()}
        else:
            # Without a word, safetensors writes the memory of a turned or mirrored array as if it were straight.
            tensors = {n: array.copy(order="C") for n, array in tensors.items()}
        return _codec(self.framework).save(tensors, metadata={"data": json.dumps(self.data, allow_nan=False)})

    @classmethod
    def from_bytes(cls: type[V], raw: bytes) -> V:
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        return cls(data=json.loads(header["__metadata__"]["data"]), raw=raw)


def _codec(framework: str) -> Any:
    if framework == "np":
        import safetensors.numpy

        return safetensors.numpy
    import safetensors.torch

    return safetensors.torch


class Embeddings(Value):
    """Encoded prompt: the keyword arguments that the pipeline's call takes, by name."""


class Latents(Value):
    """`latents` as the pipeline leaves them, and in `data` their `size` (width, height, num_frames) in pixels and what
    happened on the way: steps, seconds, engaged."""


class LatentGrid(Value):
    """`latents`: (n, channels, h, w), laid out as image-to-image takes them; in `data` their `size` in pixels."""


class Images(Value):
    """`images`: uint8, shape (n, height, width, 3)."""

    framework = "np"

    def as_pil(self) -> list[Any]:
        """The images as PIL ones, which every diffusers pipeline takes."""
        from PIL import Image

        return [Image.fromarray(image) for image in self.tensors["images"]]


class Crops(Images):
    """Cut out of other images: in `data`, for each, `of` which image, and in `windows` (left, top, right, bottom)
    there, in pixels."""


class Regions(Value):
    """Parts of images that a detector found. `boxes`: int64 (n, 4), left, top, right, bottom in pixels, the last two
    just outside; `of`: int64 (n,), the image that each is of; `scores`: float32 (n,), 0 to 1. In `data` their
    `labels`."""

    framework = "np"


class Videos(Value):
    """`frames`: uint8, shape (n, frames, height, width, 3); in `data` the `fps` at which they are to be shown."""

    framework = "np"
