"""The typed configuration: what the YAML under `conf/` may hold, and its conversion, once, at the top.

Hydra composes; `typed` turns the result (or a config read back from a record) into plain dataclasses. Every node with
a `name` gets the dataclass registered for that name, so unknown keys and wrong types stop here, also those added with
`+group.key=`. Below this module there is no OmegaConf.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import II, MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .. import registry
from ..errors import ConfigError
from . import trust
from .typing_cache import convert, convert_stage_options

PACKAGE = Path(__file__).parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""The shipped configs: inside the package in a wheel, beside it in a checkout."""


class Init(Enum):
    """Where a model's weights come from."""

    pretrained = "pretrained"
    tiny = "tiny"
    """The same architecture shrunk, with seeded random weights: a rehearsal, anywhere, offline, in seconds."""
    random = "random"
    """Full size, seeded random weights: for timing where the weights cannot be had."""


class Dtype(Enum):
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


@dataclass(kw_only=True)
class ModelConfig:
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


@dataclass(kw_only=True)
class SamplerConfig:
    name: str = MISSING


@dataclass(kw_only=True)
class PartConfig:
    """A signal, a criterion or a predictor of a cache strategy."""

    name: str = MISSING


class GuidanceBranches(Enum):
    """Who decides for the denoiser's calls of one step, of models that are called once for each guidance branch."""

    separate = "separate"
    """Each for itself."""
    first = "first"
    """The first one for all."""


@dataclass(kw_only=True)
class CacheConfig:
    """A cache strategy: signal x criterion x predictor, inside a window of the steps."""

    name: str = MISSING
    signal: PartConfig | None = None
    criterion: PartConfig | None = None
    predictor: PartConfig | None = None
    start: float = 0.0
    """Fraction of the steps: step i of n, counted from 0, may be skipped iff start <= i/n < end."""
    end: float = 1.0
    max_consecutive_cache_hits: int = -1
    """After so many skipped steps in a row one is computed; -1: no limit."""
    max_cache_hits: int = -1
    """Skipped steps in all; -1: no limit."""
    warmup_steps: int = 0
    """The first steps, which are always computed. The very first one is, whatever this says."""
    force_last_step: bool = False
    """Whether the last step is always computed."""
    tail_blocks: int = 0
    """Last blocks of a transformer that always run."""
    depth: int | None = None
    """U-Nets: how many of the outermost layers always run, on the way down and on the way up; what lies deeper is
    skipped. Null: the first layers run (`cache.signal.blocks`) and all the others are skipped."""
    guidance_branches: GuidanceBranches = GuidanceBranches.separate
    calibration: str | None = None
    """A file that `python -m wavespeed_runner calibrate` wrote; null: one that fits, where a part needs it."""
    calibrated_for: str | None = None
    """Filled in: the run that the strategy's calibrated numbers belong to. Any other one is refused."""


@dataclass(kw_only=True)
class AdaptersConfig:
    """What is learned on top of the model."""

    name: str = MISSING
    path: Any = MISSING
    """A .safetensors file, `pkg://package/file`, or a hub id; or a list of them."""


@dataclass(kw_only=True)
class MemoryConfig:
    """Where weights lie and how images are decoded, for less memory."""

    name: str = MISSING


@dataclass(kw_only=True)
class PromptsConfig:
    path: str = MISSING
    """A text file, one prompt a line; `pkg://package/file` for one inside an installed package."""


@dataclass(kw_only=True)
class StageConfig:
    stage: str = MISSING
    """The registered stage to run."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Input name of the stage -> name of the node whose output it takes."""
    options: Any = None
    """The stage's own options; what is not given here comes from the top-level values."""


@dataclass(kw_only=True)
class GraphConfig:
    output: str = MISSING
    """The node whose images are the result."""
    strength: float | None = None
    """The graph's own default: a second pass wants less than an image that is painted anew. Null: the model's."""
    stages: dict[str, StageConfig] = field(default_factory=dict)


@dataclass(kw_only=True)
class OpenGraph(GraphConfig):
    """While Hydra composes: OmegaConf lets nobody add a plain mapping to a dict of dataclasses."""

    stages: dict[str, Any] = field(default_factory=dict)


class NoiseFloor(Enum):
    """What an image that nothing lossy has touched is compared with, to know how far a likeness can be trusted."""

    none = "none"
    repeat = "repeat"
    """The reference, generated once more from scratch."""
    full = "full"
    """That, and the reference in the other precision: bfloat16 for float32 models, float32 for the others."""


@dataclass(kw_only=True)
class MeasureConfig:
    reference: bool = True
    """Generate the same images with every lossy option off and compare."""
    warmup: int = 1
    """Whole generations before the first timed one of each setting, kept out of the figures."""
    repeats: int = 1
    """Timed generations of each image."""
    difference_gain: float = 4.0
    """Difference images show gain * |image - reference|, cut at white."""
    reference_steps: int | None = None
    """Steps of the reference; null: the run's own. More of them judge "fewer steps without cache" as a cache is."""
    in_turn: bool = False
    """Denoise an image and its reference again, one right after the other, whatever the store has. Otherwise one that
    was denoised for an earlier job keeps the time that it took then, and on a machine that has become busier, or
    cooler, a speed-up against it says nothing; see `same_run` in the record."""
    noise_floor: NoiseFloor = NoiseFloor.none
    """How close the reference comes to itself. Generated after everything that is timed."""


@dataclass(kw_only=True)
class ClaimedFigure:
    """A figure with its 95 % bounds, as far as they are known."""

    value: float = MISSING
    low: float | None = None
    high: float | None = None
    worst: float | None = None
    """Of single images."""
    noise_floor: float | None = None
    """The least likeness (for MAE the largest distance) of the reference to itself, see `NoiseFloor`."""
    repeat_floor: float | None = None
    """The same, but of the same machine and numerics only. Of timings: the median absolute deviation of repetitions of
    the same work."""
    mad: float | None = None
    """Of timings: the median absolute deviation of all, as in results.csv."""


@dataclass(kw_only=True)
class ClaimConfig:
    """What an exported experiment says of itself: data that `replay` compares with, and that computes nothing."""

    seconds: ClaimedFigure | None = None
    """Denoising an image, median."""
    speedup: ClaimedFigure | None = None
    """Against the reference."""
    ssim: ClaimedFigure | None = None
    mae_similarity: ClaimedFigure | None = None
    mae: ClaimedFigure | None = None
    psnr: ClaimedFigure | None = None
    computed_share: float | None = None
    """Of the blocks' FLOPs where they were counted, else of the steps."""
    prompts: int = MISSING
    pixels_sha256: list[str] = field(default_factory=list)
    """Of each image, in the order of the prompts and their seeds."""
    prompts_sha256: str = MISSING
    """Of the prompts, one a line."""
    fingerprint: str = MISSING
    device_name: str = MISSING
    code: str = MISSING
    """Digest of the modules that decide the images."""
    commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class Config:
    """The whole configuration. Null in one of `OF_MODEL` means the model's own."""

    model: ModelConfig = MISSING
    sampler: SamplerConfig = MISSING
    cache: CacheConfig = MISSING
    adapters: AdaptersConfig = MISSING
    memory: MemoryConfig = MISSING
    prompts: PromptsConfig = MISSING
    graph: GraphConfig = MISSING
    measure: MeasureConfig = MISSING
    prompt: str | None = None
    negative_prompt: str = ""
    seed: int = 0
    num_images_per_prompt: int = 1
    """Images or videos of each prompt, with the seeds seed, seed + 1, ..."""
    batch_size: int = 1
    """How many are denoised together."""
    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    num_frames: int | None = None
    image: str = "pkg://wavespeed_runner/samples/scene.png"
    """A PNG, JPEG or WebP file to start from, for graphs that do."""
    mask: str = "pkg://wavespeed_runner/samples/mask.png"
    """White where inpainting paints anew."""
    strength: float | None = None
    device: str = "auto"
    claim: ClaimConfig | None = None
    """Measured by whoever exported the experiment."""
    dry_run: bool = False
    rerun: bool = False
    outputs: str = "outputs"


@dataclass(kw_only=True)
class OpenConfig(Config):
    """While Hydra composes: with what makes the jobs of a sweep (`sweeping/points.py`), and is in none of them."""

    points: Any = None


NAMED_NODES = ("model", "sampler", "adapters", "memory", "cache", "cache.signal", "cache.criterion", "cache.predictor")
"""Nodes whose dataclass is chosen by their `name`."""

MODEL_DEFAULT_KEYS = ("steps", "guidance_scale", "width", "height", "num_frames", "strength")
"""Top-level values that are the model's own where they are null."""

KEYS_NOT_IN_IMAGES = ("dry_run", "rerun", "outputs", "claim")
"""Top-level keys that say how to run, or what came of it, not what to run; left out of an image's own copy of its
config."""


def resolve_config(composed: dict[str, Any]) -> Config:
    """Checks and converts a composed config (plain data, interpolations unresolved), or one read back from a record.

    Raises:
        ConfigError: unregistered name, missing value.
        omegaconf.errors.OmegaConfBaseException: unknown key, wrong type, broken interpolation.
    """
    schemas = tuple(type_ for _, type_ in _chosen(composed))
    config = convert(composed, schemas, merged=_merged, finished=_with_models_own, finishing=MODEL_DEFAULT_KEYS)
    assert isinstance(config, Config)
    trust.check_resolved(to_data(config))
    return config


def _merged(composed: dict[str, Any]) -> DictConfig:
    for key in sorted(OmegaConf.missing_keys(OmegaConf.create(composed))):
        raise ConfigError(f"{key}: a value is needed; give {key}=VALUE")
    root = OmegaConf.merge(_schema(Config, composed), composed)
    assert isinstance(root, DictConfig)
    return root


def _with_models_own(root: Any) -> Any:
    if root.strength is None:
        root.strength = root.graph.strength
    for key in MODEL_DEFAULT_KEYS:
        if root[key] is None:
            root[key] = root.model[key]
    return OmegaConf.to_object(root)


def resolve_stage_options(config: Config) -> dict[str, Any]:
    """Stage name -> its typed options: what the graph gives, the rest following the top-level values.

    Raises:
        ConfigError, OmegaConfBaseException: as `typed`.
    """
    root: Any = None
    found = {}
    for name, stage in config.graph.stages.items():
        given = {} if stage.options is None else stage.options
        if not isinstance(given, dict):
            raise ConfigError(f"graph.stages.{name}.options={given}: keys and their values are needed")
        options = registry.lookup("stage", stage.stage, f"graph.stages.{name}.stage").options
        if (simple := convert_stage_options(options, given, config)) is not None:
            found[name] = simple
            continue
        root = root or OmegaConf.structured(config)
        try:
            root.graph.stages[name].options = OmegaConf.merge(_schema(options, given), given)
            found[name] = OmegaConf.to_object(root.graph.stages[name].options)
        except ConfigError as error:
            raise type(error)(f"graph.stages.{name}.options: {error}") from None
        except OmegaConfBaseException as error:
            key = f"graph.stages.{name}.options"
            if not str(error.full_key).startswith(key):
                error.full_key = f"{key}.{error.full_key}"
            raise
    return found


def _schema(base: type, given: dict[str, Any]) -> DictConfig:
    """A structured config of `base` in which every node with a `name` has the dataclass registered for it."""
    root = OmegaConf.structured(base)
    for path, options in _chosen(given):
        OmegaConf.update(root, path, OmegaConf.structured(options), merge=False)
    return root


def _chosen(given: dict[str, Any]) -> Iterator[tuple[str, type]]:
    """Path and registered dataclass of every node that has a `name`, outer ones first."""
    for path in NAMED_NODES:
        node: Any = given
        for part in path.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if isinstance(node, dict) and "name" in node:
            if node["name"] == MISSING:
                raise ConfigError(f"{path}.name: a value is needed; give {path}.name=VALUE")
            yield path, registry.lookup(path.replace(".", "/"), node["name"], f"{path}.name").options


def to_data(config: Any) -> Any:
    """A dataclass as JSON data: enums by value, tuples as lists."""
    if isinstance(config, Enum):
        return config.value
    if is_dataclass(config):
        return {field.name: to_data(getattr(config, field.name)) for field in fields(config)}
    if isinstance(config, dict):
        return {str(name): to_data(value) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_data(value) for value in config]
    return config


def list_groups() -> list[str]:
    """Names of the shipped config groups, Hydra's own included where we have options for them."""
    return sorted({file.parent.relative_to(CONF).as_posix() for file in CONF.rglob("*.yaml")} - {"."})


def top_level(key: str) -> Any:
    """Default of a stage option that follows a top-level value: `steps: int = top_level("steps")`."""
    return II(key)


def resolve_path(path: str) -> Path:
    """A file path, `pkg://package/inside` resolved to the installed package."""
    if not path.startswith("pkg://"):
        return Path(path).expanduser()
    package, _, inside = path.removeprefix("pkg://").partition("/")
    from importlib.util import find_spec

    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"{path}: package '{package}' is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / inside
