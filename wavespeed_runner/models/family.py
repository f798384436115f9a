"""What the runner must know of a model family, as data and functions: one `Family` a file in this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..config.schema import Guidance, ModelConfig
from ..errors import Unfit

TASKS = ("text_to_image", "image_to_image", "inpaint", "text_to_video", "image_to_video")
"""What a pipeline can be asked for; diffusers has a pipeline class for each, over the same components."""


@dataclass(frozen=True, kw_only=True)
class BlockList:
    """One list of a denoiser's repeated blocks, and how they are called.

    Explicit, not guessed from shapes: argument names and return order differ between families, and between the lists
    of one.
    """

    name: str
    """Attribute of the denoiser."""
    streams: tuple[str, ...] = ("hidden_states",)
    """Parameters of a block that carry tokens from block to block. Lists behind the first one name the same streams in
    the same order."""
    returns: tuple[str, ...] = ("hidden_states",)
    """What a block returns, in order, by the names that the first list gives the streams."""
    joined: tuple[str, ...] = ()
    """Streams that lie behind each other, along the tokens, in the block's one stream: (first, second)."""


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Where a transformer keeps its repeated blocks: what block caches attach to."""

    lists: tuple[BlockList, ...]
    """In the order in which they run. What the denoiser does between them, it goes on doing."""
    used: tuple[str, ...] = ("hidden_states",)
    """Streams of the last block that the denoiser goes on with."""
    modulated: Callable[[Any, dict[str, Any], dict[str, Any]], Any] | None = None
    """(first block, its streams, its other arguments) -> its timestep-modulated input, what TeaCache watches. None: no
    such thing."""
    variants: dict[str, Callable[[Any, dict[str, Any], dict[str, Any]], Any]] = field(default_factory=dict)
    """`cache.variant` of TeaCache -> what it watches instead of `modulated`."""
    embedder: str | None = None
    """Module of the denoiser that embeds the timestep: what it gave is among the arguments of `modulated`, by its name,
    where the blocks do not get it."""
    tail: bool = True
    """Whether the last blocks can run behind skipped ones: not where the denoiser counts the blocks that it runs."""


@dataclass(frozen=True, kw_only=True)
class UNetBlocks:
    """diffusers' `UNet2DConditionModel`: what lies between its first and its last convolution can be skipped."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One call of a pipeline: what the denoise stage asks for."""

    task: str = "text_to_image"
    steps: int
    guidance_scale: float | None
    width: int
    height: int
    num_frames: int | None = None
    """Of a video; None for images."""
    generator: Any
    """A `torch.Generator`, or a list of them, one per image of the batch."""
    image: Any = None
    """A list of PIL images to start from, one per image of the batch; or latents, shape (n, channels, h, w)."""
    mask: Any = None
    """A list of PIL images: white is painted anew."""
    strength: float | None = None
    """How much of the schedule is run on the image that is started from: 0 to 1."""


def plain_arguments(model: ModelConfig, embeddings: dict[str, Any], wanted: Wanted) -> dict[str, Any]:
    """Embeddings and guidance as keyword arguments of most pipelines' call; 1 is no guidance."""
    return {**embeddings, "guidance_scale": 1.0 if wanted.guidance_scale is None else wanted.guidance_scale}


def same_layout(pipe: Any, latents: Any, *, width: int, height: int) -> Any:
    """`Family.unpacked` of pipelines whose latents are (n, channels, h, w) all the way."""
    return latents


def first_output(output: Any) -> dict[str, Any]:
    """The latents in what most pipelines return with `output_type="latent"`."""
    return {"latents": output.images if hasattr(output, "images") else output.frames}


@dataclass(frozen=True, kw_only=True)
class Family:
    """One model family. Functions import torch and diffusers inside.

    build(model, dtype, device) -> pipe: `init=tiny` and `init=random`, of the class of the first task.
    encode(pipe, model, sample, guidance_scale[, image]) -> {name: tensor}: the prompt, one row a tensor. The image (a
        PIL image) is given by graphs that wire one to the stage.
    arguments(model, embeddings, wanted) -> {argument: value}: embeddings and guidance for the pipeline's call; sizes,
        steps, generator and images are added by `call.denoise`.
    outputs(output) -> {name: tensor}: `latents`, and what else the pipeline returns with `output_type="latent"`.
    decode(pipe, latents, *, width, height, num_frames) -> numpy uint8 array (n, height, width, 3), of videos
        (n, frames, height, width, 3). latents: what `outputs` gave.
    unpacked(pipe, latents, *, width, height) -> tensor (n, channels, h, w): latents as image-to-image takes them.
    """

    tasks: dict[str, str]
    """Task -> class of diffusers' pipeline; the first is the one that is loaded."""
    build: Callable[..., Any]
    encode: Callable[..., dict[str, Any]]
    decode: Callable[..., Any]
    arguments: Callable[[Any, dict[str, Any], Wanted], dict[str, Any]] = plain_arguments
    outputs: Callable[[Any], dict[str, Any]] = first_output
    unpacked: Callable[..., Any] | None = None
    """None: the latents have no image's layout that image-to-image would take."""
    run: Callable[[Any, dict[str, Any]], dict[str, Any]] | None = None
    """(pipe, arguments of its call) -> as `outputs`, which it stands in for: where decoding needs more of the call than
    what the pipeline returns."""
    prepare: Callable[[Any, Wanted], None] | None = None
    """(pipe, wanted): sets what the pipeline reads from its own attributes, where its call has no argument for it."""
    check: Callable[[Any, Any], None] | None = None
    """(model, pipe): raises `RunError` when loaded weights are not what the configuration says."""
    denoiser: str = "transformer"
    """The pipeline's component that is called every step."""
    denoiser_2: str | None = None
    """The one for low noise, of pipelines that have two: each step calls one of them."""
    float32: tuple[str, ...] = ()
    """Components that stay in float32 whatever `model.dtype` says, as their makers run them."""
    elsewhere: dict[str, dict[str, str]] = field(default_factory=dict)
    """Key of the configuration that names a repository -> the parts that come from there, component -> class in
    transformers. Where the key is null, they are in `model.repo`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the pipeline's class, given whatever its repository says: a component left out, a switch."""
    published: Callable[[Any], str] | None = None
    """model -> hub id that completes a single-file checkpoint, where `model.components` gives none."""
    single_file: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Component -> how names of its weights begin in a single file of the original layout that holds several
    components. Empty: single files hold the denoiser alone."""
    blocks: Blocks | UNetBlocks | None = None
    """None: cache strategies cannot attach."""
    kind: str = "image"
    """`image` or `video`."""
    size_multiple: int = 16
    """Width and height must be multiples of this many pixels."""
    max_pixels: int | None = None
    """Width times height, at most."""
    fixed_size: tuple[int, int] | None = None
    """Width and height of models that make no other; rehearsals have `tiny_size`."""
    frame_multiple: int = 1
    """The number of frames must be one more than a multiple of this."""
    tiny_size: int = 128
    """Width and height of a rehearsal with `init=tiny`, where the user gives none."""
    tiny_frames: int = 5
    unguided: float = 1.0
    """The guidance_scale at which classifier-free guidance does nothing. It is 0 where the scale multiplies what is
    added to the prompt's own prediction."""
    adapters: tuple[str, ...] = ("lora",)
    """Kinds of adapters that diffusers can load into it and that change what it makes: `lora`, `textual_inversion`."""
    batches: bool = True
    """Whether embeddings of several prompts can be put behind each other, and denoised together."""
    whole: bool = False
    """Whether the pipeline cannot be split, and encodes and decodes while it is timed."""
    schedule: str = "flow"
    """What its scheduler integrates: `flow` (flow matching), `diffusion` (DDPM noise, epsilon or v predicted) or
    `cogvideox` (the same with shifted noise). Samplers fit by it, see `samplers.why_unusable`."""
    own_sampler: Callable[[Any], str] = lambda model: ""
    """model -> name, in the table of samplers, of the scheduler that it was published with. Empty: not known, and taken
    for one that draws no noise and calls the denoiser once a step."""
    distilled: Callable[[Any], bool] = lambda model: False
    """model -> whether it was distilled to few steps of its own sampler."""
    min_steps: int = 1
    """2 where the noise levels are stretched to an end above 0: diffusers divides 0 by 0 for a single one."""
    unfit_samplers: dict[str, str] = field(default_factory=dict)
    """Samplers that would fit by the schedule and do not -> why."""

    @property
    def adapter_names(self) -> str:
        return ", ".join(self.adapters) or "none"

    @property
    def task_names(self) -> str:
        return ", ".join(self.tasks)


def two_passes(model: ModelConfig, guidance_scale: float | None, *, off: float = 1.0) -> bool:
    """Whether classifier-free guidance acts: every step also runs the negative prompt. off: `Family.unguided`."""
    return model.guidance is Guidance.true_cfg and guidance_scale is not None and guidance_scale > off


def allow_guidance(model: ModelConfig, *allowed: Guidance) -> None:
    """Raises `ConfigError` for guidance that the family's pipelines do not have."""
    if model.guidance not in allowed:
        names = ", ".join(guidance.value for guidance in allowed)
        raise Unfit(f"model.guidance={model.guidance.value}: allowed: {names}")


def task_of(kind: str, inputs: dict[str, Any]) -> str:
    """The task of a denoise stage with these inputs. kind: the family's."""
    starts = "image" in inputs or "latents" in inputs
    if kind == "video":
        return "image_to_video" if starts else "text_to_video"
    if "mask" in inputs:
        return "inpaint"
    return "image_to_image" if starts else "text_to_image"
