"""Everything the runner needs to know about one model family, as one `Family` object.

How to add a family:

1. Write `families/<name>.py`. `families/pixart_sigma.py` is the shortest one for images, `families/cogvideox.py` for
   videos. A family file holds
   - `FULL`, the published configuration of every component, and `TINY`, the same with few and narrow layers
     (`weights/random_init.py`): `init=random` and `init=tiny` are built from them;
   - a config dataclass derived from `ModelConfig` with the family's own options, checked in `__post_init__`;
   - functions that build a random-weight pipeline, encode a prompt and decode latents;
   - `register("model", "<name>", <Name>Config)(Family(...))`. Required are `tasks`, `build`, `encode` and `decode`.
     Set `blocks` if cache strategies are to attach to the blocks of the denoiser, and `schedule` unless the model is a
     flow-matching one. Every other field has a default that fits most pipelines.
2. Import the file in `families/__init__.py`.
3. Write `conf/model/<name>.yaml` with the repository and the default steps, guidance and size.

Nothing else has to change. Tests find the new option by its YAML file: `tests/models/test_every_model.py` runs every
task against one call of diffusers' own pipeline and expects the same bits (how that call is made for the new model goes
into `tests/models/their_calls.py`), `test_every_graph.py` runs it through every shipped graph, `test_saved_models.py`
saves it and loads it again, `test_batches.py` denoises several prompts at once, and `tests/caching/` attaches every
cache strategy to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..config.schema import Guidance, ModelConfig
from ..errors import Unfit

if TYPE_CHECKING:
    import numpy as np
    from diffusers import DiffusionPipeline
    from torch import Generator, Tensor, nn

TASKS = ("text_to_image", "image_to_image", "inpaint", "text_to_video", "image_to_video")
"""What a pipeline can be asked for."""


@dataclass(frozen=True, kw_only=True)
class BlockList:
    """One list of repeated blocks of a denoiser, and how the denoiser calls them. Even within a family they differ."""

    name: str
    """Attribute of the denoiser that holds the list."""
    streams: tuple[str, ...] = ("hidden_states",)
    """Parameters of a block that carry tokens from block to block. Later lists name the same streams in the same
    order."""
    returns: tuple[str, ...] = ("hidden_states",)
    """What a block returns, in order, by the stream names of the first list."""
    concatenated: tuple[str, ...] = ()
    """(first, second): these streams of the first list are concatenated along the tokens in the block's only stream."""


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Where a transformer keeps its repeated blocks; block caches attach there."""

    lists: tuple[BlockList, ...]
    """In the order in which they run. Whatever the denoiser computes between two lists still runs."""
    output_streams: tuple[str, ...] = ("hidden_states",)
    """Streams of the last block that the denoiser reads afterwards."""
    modulated_input: Callable[[nn.Module, dict[str, Tensor], dict[str, Any]], Tensor] | None = None
    """(first block, its streams, its other arguments) -> its timestep-modulated input, the signal of TeaCache. None:
    the family has no such signal."""
    variants: dict[str, Callable[[nn.Module, dict[str, Tensor], dict[str, Any]], Tensor]] = field(default_factory=dict)
    """`cache.signal.variant` -> the function to use instead of `modulated_input`."""
    timestep_embedder: str | None = None
    """Submodule of the denoiser that embeds the timestep. Set it if `modulated_input` needs the embedding and the
    blocks do not receive it: its output is then among the arguments under this name."""
    supports_tail_blocks: bool = True
    """True if the last blocks can run after skipped ones. False where the denoiser counts the blocks it has run."""


@dataclass(frozen=True, kw_only=True)
class UNetBlocks:
    """diffusers' `UNet2DConditionModel`: everything between its first and last convolution can be skipped."""


@dataclass(frozen=True, kw_only=True)
class CallInputs:
    """What one call of a pipeline is given, beside the embeddings of its prompt."""

    task: str = "text_to_image"
    steps: int
    guidance_scale: float | None
    width: int
    height: int
    num_frames: int | None = None
    """Frames of a video; None for images."""
    generator: Generator | list[Generator] | None
    """One generator, or a list with one per image of the batch."""
    image: Any = None
    """Start images: PIL images, one per image of the batch, or latents of shape (n, channels, h, w)."""
    mask: Any = None
    """PIL images, one per image of the batch; white areas are repainted."""
    strength: float | None = None
    """Share of the schedule that runs on the start image, 0 to 1."""


def build_plain_arguments(model: ModelConfig, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """Embeddings and guidance as most pipelines take them; a guidance scale of 1 means no guidance."""
    return {**embeddings, "guidance_scale": 1.0 if inputs.guidance_scale is None else inputs.guidance_scale}


def keep_layout(pipe: DiffusionPipeline, latents: Tensor, *, width: int, height: int) -> Tensor:
    """`Family.unpack_latents` for pipelines whose latents are never packed: (n, channels, h, w) throughout."""
    return latents


def read_latents(output: Any) -> dict[str, Tensor]:
    """The latents that most pipelines return with `output_type="latent"`."""
    return {"latents": output.images if hasattr(output, "images") else output.frames}


@dataclass(frozen=True, kw_only=True)
class Family:
    """One model family. Its functions import torch and diffusers in their bodies, so that importing it stays cheap."""

    tasks: dict[str, str]
    """Task -> diffusers pipeline class. The first one is the class that is loaded."""
    build: Callable[..., DiffusionPipeline]
    """(model, dtype, device) -> a random-weight pipeline of the first task's class, for `init=tiny` and `random`."""
    encode: Callable[..., dict[str, Tensor]]
    """(pipe, model, sample, guidance_scale) -> embeddings by name, each with a batch dimension of 1. A function that
    also has a parameter `image` gets the PIL image that the graph wires to the encode stage; one with a parameter
    `reading` weighs prompts and reads them in chunks (`text/clip_chunks.py`), and gets it where that is asked for."""
    decode: Callable[..., np.ndarray]
    """(pipe, outputs, *, width, height, num_frames) -> uint8 images (n, height, width, 3), or videos (n, frames,
    height, width, 3). `outputs` is what `run` or `read_outputs` returned."""
    build_arguments: Callable[[Any, dict[str, Tensor], CallInputs], dict[str, Any]] = build_plain_arguments
    """(model, embeddings, inputs) -> embeddings and guidance as keyword arguments of the pipeline's call. Sizes, steps,
    generator and images are added by `pipeline_call.denoise`."""
    read_outputs: Callable[[Any], dict[str, Tensor]] = read_latents
    """(what the pipeline returned) -> tensors by name: `latents`, and whatever else decoding needs."""
    unpack_latents: Callable[..., Tensor] | None = None
    """(pipe, latents, *, width, height) -> (n, channels, h, w), as image-to-image takes them. None: it takes none."""
    run: Callable[[DiffusionPipeline, dict[str, Any]], dict[str, Tensor]] | None = None
    """(pipe, call arguments) -> tensors by name. Calls the pipeline itself, in the place of `read_outputs`."""
    prepare: Callable[[DiffusionPipeline, CallInputs], None] | None = None
    """(pipe, inputs): sets what the pipeline reads from its own attributes instead of its call's arguments."""
    check: Callable[[Any, DiffusionPipeline], None] | None = None
    """(model, pipe): raises `RunError` if the loaded weights contradict the configuration."""
    denoiser: str = "transformer"
    """Component of the pipeline that is called in every step."""
    denoiser_2: str | None = None
    """The second denoiser, for low noise, of pipelines that have two. Each step calls one of them."""
    float32_components: tuple[str, ...] = ()
    """Components that stay in float32 whatever `model.dtype` says, as their authors run them."""
    external_components: dict[str, dict[str, str]] = field(default_factory=dict)
    """Config key that names another repository -> component -> transformers class. Null: from `model.repo`."""
    packages: tuple[str, ...] = ()
    """Packages that loading takes, beside those of the runner."""
    pipeline_options: dict[str, Any] = field(default_factory=dict)
    """Constructor arguments of the pipeline class that override its repository: None leaves a component out."""
    published_repo: Callable[[Any], str] | None = None
    """(model) -> hub id that supplies the components a single-file checkpoint lacks, unless `model.components` does."""
    single_file_prefixes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Component -> prefixes of its weight names in single files of several components. Empty: the denoiser alone."""
    blocks: Blocks | UNetBlocks | None = None
    """None: cache strategies cannot attach to the blocks of this denoiser."""
    kind: str = "image"
    """`image` or `video`."""
    size_multiple: int = 16
    """Width and height must be multiples of this many pixels."""
    max_pixels: int | None = None
    """Upper limit of width times height."""
    fixed_size: tuple[int, int] | None = None
    """(width, height) of models that make no other size; tiny runs use `tiny_size`."""
    frame_multiple: int = 1
    """The number of frames must be a multiple of this plus one."""
    tiny_size: int = 128
    """Default width and height with `init=tiny`."""
    tiny_frames: int = 5
    """Default number of frames with `init=tiny`."""
    beside_noise: tuple[str, ...] = ()
    """Tasks whose image is read, in tokens of `size_multiple` squared pixels behind the noise: no `strength` acts."""
    choose_size: Callable[[Any, tuple[int, int]], tuple[int, int] | None] = lambda model, image: None
    """(model, width and height of an image) -> the makers' size for a run from it; None: the nearest that fits."""
    rescales_guidance: tuple[str, ...] = TASKS
    """Tasks whose pipelines have `guidance_rescale`, where the model has such an option."""
    why_not_float16: Callable[[Any], str] = lambda model: ""
    """(model) -> where it is reported that its numbers leave the range of float16; empty: not known to."""
    decoder_channels: int | None = None
    """Channels of the VAE's last layers, at the full size of all frames; None: not so large as to matter."""
    unguided_scale: float = 1.0
    """`guidance_scale` without effect. 0 where the scaled difference is added to the prediction for the prompt."""
    adapters: tuple[str, ...] = ("lora",)
    """Adapter kinds that diffusers can load for this family and that take effect: `lora`, `textual_inversion`."""
    supports_batches: bool = True
    """True if the embeddings of several prompts can be concatenated and denoised together."""
    single_call: bool = False
    """True if the pipeline cannot be split into stages: it encodes and decodes inside the timed call."""
    schedule: str = "flow"
    """What the denoiser predicts and the scheduler integrates: `flow` (flow matching), `diffusion` (DDPM noise,
    predicting epsilon or v) or `cogvideox` (the same with shifted noise levels). It decides which samplers fit."""
    own_sampler: Callable[[Any], str] = lambda model: ""
    """(model) -> the sampler it was published with. Empty: taken for one without noise and of one call a step."""
    own_shift: Callable[[Any], float | None] = lambda model: None
    """(model) -> shift of the noise levels in that scheduler; None: unknown."""
    is_distilled: Callable[[Any], bool] = lambda model: False
    """(model) -> True if it was distilled to few steps of its own sampler."""
    min_steps: int = 1
    """2 where the noise levels are stretched to end above 0: diffusers divides 0 by 0 for a single step."""
    unsupported_samplers: dict[str, str] = field(default_factory=dict)
    """Sampler that `schedule` would allow but that does not work with this family -> the reason."""

    @property
    def adapter_names(self) -> str:
        """Adapter kinds, for messages."""
        return ", ".join(self.adapters) or "none"

    @property
    def task_names(self) -> str:
        """Tasks, for messages."""
        return ", ".join(self.tasks)


def uses_cfg(model: ModelConfig, guidance_scale: float | None, *, off: float = 1.0) -> bool:
    """True if classifier-free guidance takes effect: every step then runs the negative prompt too.

    off: the scale without effect, `Family.unguided_scale`.
    """
    if model.guidance is Guidance.embedded:  # beside the scale that is an input of the denoiser
        return (getattr(model, "true_cfg_scale", None) or 1.0) > 1.0
    audio = getattr(model, "audio_guidance_scale", None)  # guidance of the audio alone runs the negative prompt too
    scales = [scale for scale in (guidance_scale, audio) if scale is not None]
    return model.guidance is Guidance.true_cfg and bool(scales) and max(scales) > off


def allow_guidance(model: ModelConfig, *allowed: Guidance) -> None:
    """Raises `Unfit` if the family's pipelines do not have this kind of guidance."""
    if model.guidance not in allowed:
        names = ", ".join(guidance.value for guidance in allowed)
        raise Unfit(f"model.guidance={model.guidance.value}: allowed: {names}")


def starts_from_image(family: Family, task: str) -> bool:
    """True if denoising starts from an image that is noised to `strength`, False if it starts from noise alone."""
    return task in ("image_to_image", "inpaint") and task not in family.beside_noise


def infer_task(kind: str, inputs: dict[str, Any]) -> str:
    """The task of a denoise stage, from the names of its inputs. kind: `Family.kind`."""
    starts = "image" in inputs or "latents" in inputs
    if kind == "video":
        return "image_to_video" if starts else "text_to_video"
    if "mask" in inputs:
        return "inpaint"
    return "image_to_image" if starts else "text_to_image"
