"""The values that stages pass on: pipelines, embeddings, latents, images, videos.

A stage's annotations name these types, and the plan checks that outputs fit inputs. A stored value is tensors plus JSON
data, so one codec serves every stage; `storage` keeps the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias, TypeVar

V = TypeVar("V", bound="Value")

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are just outside."""

SEEDS = 2**64
"""Seeds are 0 to one less, as torch.Generator and ComfyUI take them."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One requested image: prompt and seed. Every graph has a node `sample` of this type as its source."""

    prompt: str
    negative_prompt: str = ""
    seed: int = 0


@dataclass(kw_only=True)
class Pipeline:
    """A loaded diffusers pipeline. It exists only in the process and is never stored."""

    pipe: Any
    """The diffusers pipeline."""
    model: Any
    """The `ModelConfig` that it was loaded from."""
    family: Any
    """The model's `models.family.Family`."""
    device: str
    """The torch device that it computes on."""
    engaged: dict[str, Any] = field(default_factory=dict)
    """Evidence of the options that took effect on it, for the record's `engaged`."""
    warmed: dict[str, Any] = field(default_factory=dict)
    """Settings that are warmed up in this process -> the `caching.flops.Flops` of one generation."""
    running: Callable[[], AbstractContextManager[Any]] = nullcontext
    """To be entered whenever the pipeline computes: sets what of torch is process-wide, and undoes it."""
    compiler: Any = None
    """The `accelerate.compile_monitor.CompileMonitor` of what is compiled; None: nothing is."""
    kernels: dict[str, Any] = field(default_factory=dict)
    """Settings that are warmed up -> the kernels that one call of the denoiser ran, by kind."""
    parallel: Any = None
    """The `accelerate.parallel.apply.Parallel` that divides its work among ranks; None: one process does it all."""
    weights: Any = None
    """Keeps the weights alive that this pipeline shares with others that were derived from the same ones."""

    def watch_compiler(self) -> AbstractContextManager[Any]:
        """Watches what is compiled: yields a `CompileEvents`, or None where nothing is to be compiled."""
        return self.compiler.watch() if self.compiler else nullcontext()


class Value:
    """Named tensors and JSON data, the form in which outputs of stages are stored. Subclasses say what they hold.

    A value read from the store decodes its tensors when they are first used: a run whose results are all stored needs
    the data of its latents, but neither their tensors nor torch.
    """

    framework: ClassVar[str] = "pt"
    """`pt`: torch tensors; `np`: numpy arrays."""
    holds: ClassVar[dict[str, tuple[str, int]]] = {}
    """Tensors that it has in any case -> their number format and dimensions, as safetensors calls them."""

    def __init__(self, *, tensors: dict[str, Any] | None = None, data: dict[str, Any] | None = None, raw: bytes = b""):
        """Holds tensors, or the stored bytes to decode them from, and the data beside them."""
        self.data = data or {}
        self._tensors, self._raw = tensors, raw

    @property
    def tensors(self) -> dict[str, Any]:
        """The tensors by name: torch tensors or numpy arrays, see `framework`."""
        if self._tensors is None:
            self._tensors = _codec(self.framework).load(self._raw)
        return self._tensors

    def to_bytes(self) -> bytes:
        """Encodes it as a safetensors file, with the data in the header."""
        tensors = self.tensors
        if self.framework == "pt":
            # Copies, because safetensors refuses two names for the same memory.
            tensors = {n: tensor.detach().to("cpu", copy=True).contiguous() for n, tensor in tensors.items()}
        else:
            # safetensors writes the memory of a transposed or flipped array as if it were contiguous, without an error.
            tensors = {n: array.copy(order="C") for n, array in tensors.items()}
        return _codec(self.framework).save(tensors, metadata={"data": json.dumps(self.data, allow_nan=False)})

    @classmethod
    def from_bytes(cls: type[V], raw: bytes) -> V:
        """Reads the data from safetensors bytes; the tensors are decoded later."""
        return cls(data=json.loads(_read_header(raw)["__metadata__"]["data"]), raw=raw)

    @classmethod
    def from_store(cls: type[V], raw: bytes) -> V:
        """The same for bytes that another program may have written.

        Raises:
            ValueError: they hold another kind of value.
        """
        header = _read_header(raw)
        for name, (kind, dimensions) in cls.holds.items():
            found = header.get(name, {"dtype": "nothing", "shape": []})
            if (found["dtype"], len(found["shape"])) != (kind, dimensions):
                raise ValueError(f"its {name} is {found['dtype']} of shape {found['shape']}")
        return cls.from_bytes(raw)


def _read_header(raw: bytes) -> dict[str, Any]:
    """The header of a safetensors file."""
    header: dict[str, Any] = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return header


def _codec(framework: str) -> Any:
    if framework == "np":
        import safetensors.numpy

        return safetensors.numpy
    import safetensors.torch

    return safetensors.torch


class Embeddings(Value):
    """An encoded prompt: the keyword arguments of the pipeline's call, by name.

    In `data`, of prompts that were weighted or read in chunks: `read`, what was read of each.
    """


class Latents(Value):
    """Latents as the pipeline returns them.

    In `data`: their `size` in pixels (width, height, num_frames), and how they were generated: steps, seconds, engaged.
    """


class LatentGrid(Value):
    """Latents (n, channels, h, w), in the layout that image-to-image takes; in `data` their `size` in pixels."""


class Images(Value):
    """Images: `images` is uint8 (n, height, width, 3), RGB."""

    framework = "np"
    holds: ClassVar = {"images": ("U8", 4)}

    def as_pil(self) -> list[Any]:
        """The images as PIL images, which every diffusers pipeline takes."""
        from PIL import Image

        return [Image.fromarray(image) for image in self.tensors["images"]]


class Crops(Images):
    """Parts cropped from other images.

    In `data`, for each crop: `of`, the index of its image, and `windows`, its box there.
    """


class Regions(Value):
    """Regions that a detector found in images.

    `boxes`: int64 (n, 4), see `Box`; `of`: int64 (n,), the index of each one's image; `scores`: float32 (n,), 0 to 1.
    In `data` their `labels`.
    """

    framework = "np"


class Videos(Value):
    """Videos: `frames` is uint8 (n, frames, height, width, 3), RGB; in `data` the `fps` at which they are played."""

    framework = "np"
    holds: ClassVar = {"frames": ("U8", 5)}
