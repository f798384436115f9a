"""The typed configuration: what the YAML under `conf/` may hold.

`resolve.py` converts a composed config to these dataclasses; every node with a `name` gets the dataclass that is
registered for that name. An attribute's text follows it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

from omegaconf import II, MISSING

from .applied import AccelerateConfig as AccelerateConfig
from .applied import AdaptersConfig as AdaptersConfig
from .applied import AttentionConfig as AttentionConfig
from .applied import CompileConfig as CompileConfig
from .applied import MemoryConfig as MemoryConfig
from .applied import ParallelConfig as ParallelConfig
from .applied import QuantConfig as QuantConfig
from .cache_schema import CacheConfig as CacheConfig
from .cache_schema import GuidanceBranches as GuidanceBranches
from .cache_schema import PartConfig as PartConfig
from .cache_schema import Rounding as Rounding
from .cache_schema import Window as Window
from .claim import ClaimConfig
from .limits import LimitsConfig
from .measure import MeasureConfig


class Init(Enum):
    """Where a model's weights come from."""

    pretrained = "pretrained"
    tiny = "tiny"
    """The same architecture shrunk, with seeded random weights: runs anywhere, offline, in seconds."""
    random = "random"
    """Full size, seeded random weights: for timing where the weights cannot be had."""


class Dtype(Enum):
    """Number format of weights and activations."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Guidance(Enum):
    """What `guidance_scale` does."""

    embedded = "embedded"
    """It is an input of the denoiser, which was distilled to follow it (FLUX.1-dev)."""
    true_cfg = "true_cfg"
    """Classifier-free guidance: above 1, the denoiser also sees the negative prompt, at twice the work."""
    none = "none"
    """Nothing: the model takes none (FLUX.1-schnell)."""


class Seeds(Enum):
    """Which prompts of a run begin with the same noise."""

    same = "same"
    """All: every prompt has the seeds seed, seed + 1, ..."""
    per_prompt = "per_prompt"
    """None: the seeds go on counting from prompt to prompt. One seed for all may hide how often images fork."""


@dataclass(kw_only=True)
class ModelConfig:
    """Options of every model; a family's own dataclass adds to them."""

    name: str = MISSING
    """The family: which code loads, encodes, denoises and decodes."""
    repo: str = MISSING
    """Hub id, local folder, single-file checkpoint, or `pkg://package/folder` inside an installed package."""
    revision: str | None = None
    dtype: Dtype = Dtype.float32
    init: Init = Init.pretrained
    steps: int = MISSING
    guidance_scale: float | None = None
    """The model's own default; null where the model takes no guidance."""
    guidance: Guidance = Guidance.true_cfg
    width: int = MISSING
    height: int = MISSING
    negative_prompt: str = ""
    """The model's own, which its makers run it with where none is given; only guidance reads it."""
    num_frames: int | None = None
    """Of a video; null for models of images."""
    fps: int | None = None
    """Frames a second at which a video is to be shown."""
    strength: float = 0.6
    """How much of the schedule image-to-image runs: 1 forgets the image, near 0 leaves it as it is."""
    weights: str | None = None
    """`fp16` for repositories that hold their weights as `model.fp16.safetensors` (diffusers' `variant`)."""
    components: str | None = None
    """Where the parts come from that a single file in `repo` lacks: hub id or local diffusers folder. Null: the
    published model."""
    vae: str | None = None
    """An autoencoder in the place of the model's own: hub id, diffusers folder or single file. Null: the model's."""


@dataclass(kw_only=True)
class SamplerConfig:
    """Options of every sampler; most add some of their own."""

    name: str = MISSING


class Weighting(Enum):
    """What prompt markup such as `(x:1.3)` does."""

    none = "none"
    """It is letters, as diffusers reads it; the plan warns of it."""
    a1111 = "a1111"
    """It weighs words as A1111's web UI does, and BREAK begins a new chunk."""


@dataclass(kw_only=True)
class PromptsConfig:
    """Where the prompts come from, unless `prompt` is given, and how they are read."""

    path: str | None = MISSING
    """A text file, one prompt a line; `pkg://package/file` for one inside an installed package. Null: `texts`."""
    texts: list[str] | None = None
    """The prompts themselves, where no file has them: an exported experiment brings its own along."""
    weighting: Weighting = Weighting.none
    chunked: bool = False
    """CLIP reads prompts of more than its 75 tokens in chunks, as A1111 does; otherwise they are refused."""


@dataclass(kw_only=True)
class StageConfig:
    """One stage of a graph, as YAML gives it."""

    stage: str = MISSING
    """The registered stage to run."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Input name of the stage -> name of the node whose output it takes."""
    options: Any = None
    """The stage's own options; what is not given here comes from the top-level values."""


@dataclass(kw_only=True)
class GraphConfig:
    """A graph of stages, as YAML gives it."""

    output: str = MISSING
    """The node whose images are the result."""
    strength: float | None = None
    """The graph's own default: a second pass needs less than repainting an image. Null: the model's."""
    stages: dict[str, StageConfig] = field(default_factory=dict)


@dataclass(kw_only=True)
class Config:
    """The whole configuration. Null in one of `MODEL_DEFAULT_KEYS` means the model's own."""

    model: ModelConfig = MISSING
    sampler: SamplerConfig = MISSING
    cache: CacheConfig = MISSING
    adapters: AdaptersConfig = MISSING
    quant: QuantConfig = MISSING
    attention: AttentionConfig = MISSING
    compile: CompileConfig = MISSING
    accelerate: AccelerateConfig = MISSING
    memory: MemoryConfig = MISSING
    parallel: ParallelConfig = MISSING
    prompts: PromptsConfig = MISSING
    graph: GraphConfig = MISSING
    measure: MeasureConfig = MISSING
    metrics: dict[str, Any] = field(default_factory=dict)
    """Registered judge -> its typed options: what is measured beside SSIM, PSNR and MAE."""
    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int = 0
    """0 to 2**64 - 1; -1 draws one, which the record then has in its place."""
    seeds: Seeds = Seeds.same
    num_images_per_prompt: int = 1
    """Images or videos of each prompt, with the seeds seed, seed + 1, ..."""
    batch_size: int = 1
    """So many are denoised together."""
    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    num_frames: int | None = None
    image: str = "pkg://wavespeed_runner/samples/scene.png"
    """A PNG, JPEG or WebP file to start from, for graphs that do."""
    mask: str = "pkg://wavespeed_runner/samples/mask.png"
    """An image; inpainting repaints where it is white."""
    strength: float | None = None
    device: str = "auto"
    claim: ClaimConfig | None = None
    """Measured by whoever exported the experiment."""
    dry_run: bool = False
    rerun: bool = False
    outputs: str = "outputs"
    limits: LimitsConfig = field(default_factory=LimitsConfig)


NAMED_NODES = (
    "model",
    "sampler",
    "adapters",
    "quant",
    "attention",
    "compile",
    "accelerate",
    "memory",
    "parallel",
    "cache",
    "cache.signal",
    "cache.criterion",
    "cache.predictor",
)
"""Nodes whose dataclass is chosen by their `name`."""

ADDED_GROUPS = {"quant": "none", "attention": "none", "compile": "none", "accelerate": "settings", "parallel": "none"}
"""Groups that records of earlier versions do not have -> the name of what they ran with: nothing."""

MODEL_DEFAULT_KEYS = ("steps", "guidance_scale", "width", "height", "num_frames", "strength", "negative_prompt")
"""Top-level values; where they are null, the model's own are used."""

KEYS_NOT_IN_IMAGES = ("dry_run", "rerun", "outputs", "claim", "limits")
"""Top-level keys that do not determine the images; left out of the config that an image carries."""


def top_level(key: str) -> Any:
    """Makes a stage option follow a top-level value.

    As in `steps: int = top_level("steps")`.
    """
    return II(key)


def to_data(config: Any) -> Any:
    """Converts a dataclass, or a container of them, to JSON data: enums by value, tuples as lists."""
    if isinstance(config, Enum):
        return config.value
    if is_dataclass(config):
        return {field.name: to_data(getattr(config, field.name)) for field in fields(config)}
    if isinstance(config, dict):
        return {str(name): to_data(value) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_data(value) for value in config]
    return config
