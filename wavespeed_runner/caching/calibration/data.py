"""A calibration: what uncached runs of one model have shown, and the key of the runs that it fits.

`recorder.py` and `build.py` make one, `file.py` writes and reads it, `resolve.py` takes a strategy's numbers from it.
No torch here, because the plan reads calibrations. Steps are calls of the denoiser. A triangle is a list of rows, each
one number longer than the row before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...config.denoise_options import DenoiseOptions
from ...config.resolve import resolve_stage_options
from ...config.schema import MODEL_DEFAULT_KEYS, Config
from ...config.solver import Solver
from ...errors import Unfit
from ...models.family import infer_task, starts_from_image
from ...registry import find_implementation

Key = dict[str, str | int | float | bool]
"""What a calibration belongs to: names and plain values, in a fixed order. Values that are null are left out."""
Triangle = list[list[float]]

NOT_IN_KEY = ("name", "repo", "init", "guidance", "dtype", "weights", "fps", *MODEL_DEFAULT_KEYS)
"""Keys of a model that are added to the calibration's key separately, or do not change what is recorded. `dtype` is
among them: it only rounds the numbers."""

NOT_IN_ADAPTER_KEY = ("name", "models", "steps", "guidance_scale", "sampler")
"""The name is added separately; what a LoRA was distilled for is in the run's own values where the run follows it."""


@dataclass(frozen=True, kw_only=True)
class Polynomial:
    """A TeaCache polynomial: change of the modulated input since the previous step -> change of the output."""

    coefficients: list[float]
    """Highest degree first."""
    range: list[float]
    """[lowest, highest] change among the fitted points."""
    error: float
    """Root mean square residual of the fit, in units of the output's relative change."""
    points: int
    """How many points were fitted."""


@dataclass(frozen=True, kw_only=True)
class ModelTrace:
    """Input and output changes of the denoiser, for criteria that watch the model; from the second step on."""

    input: list[float | None]
    """c = mean|x - x_p| / mean|out_p|, p the previous step."""
    rate: list[list[float | None]]
    """k = mean|out - out_c| / mean|x - x_p|. Row i (from 0) belongs to step i + 1; c runs over the steps 0 to i, as the
    last computed step before it, whose output replaces that of the steps in between."""


@dataclass(frozen=True, kw_only=True)
class FittedSolver:
    """A sampler that was fitted for one number of evaluations."""

    solver: Solver
    made: dict[str, Any]
    """How it was made, and its quality on images that it was not fitted on."""


@dataclass(frozen=True, kw_only=True)
class FittedWeights:
    """A schedule, and the weights of its skipped steps, fitted end to end for one number of computed steps."""

    steps: list[int]
    """The computed steps, counted from 1."""
    weights: list[list[float]]
    """A row a step, see `predictors.step_weights`."""
    made: dict[str, Any]
    """How it was made, and its quality on images that it was not fitted on."""


UNFINISHED = "of_iterations"
"""Key of `made` that a fit which was interrupted has: how many iterations it was to have."""


def describe_unfinished(made: dict[str, Any]) -> str:
    """What the plan says of numbers whose fit was interrupted; empty for those of one that was finished."""
    if UNFINISHED not in made:
        return ""
    # The file may hold anything.
    done, of = (made.get(name) if type(made.get(name)) is int else "?" for name in ("iterations", UNFINISHED))
    return f"; NOT FINISHED: the fit was interrupted after {done} of {of} iterations, and the same command goes on"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What uncached runs of one model, sampler and number of steps have shown."""

    key: Key
    """Which runs it fits."""
    made: dict[str, Any]
    """How it was made: prompts, seeds, versions, device, dtype."""
    sigmas: list[float] = field(default_factory=list)
    """Noise level of each step."""
    signals: dict[str, dict[str, list[list[float | None]]]] = field(default_factory=dict)
    """Signal -> guidance branch -> relative changes, averaged over the prompts. Row i (from 0) is step i + 1
    against each of the steps 0 to i; its last number is the change since the previous step. Null: 0 / 0."""
    model: dict[str, ModelTrace] = field(default_factory=dict)
    """By guidance branch."""
    polynomial: Polynomial | None = None
    ratios: list[float] = field(default_factory=list)
    """MagCache: mean over tokens of |r_t| / |r_(t-1)|, r the residual of all blocks; the first one is 1."""
    gram: dict[int, Triangle] = field(default_factory=dict)
    """Number of first blocks that always run -> Gram matrix of the other blocks' residuals over all steps: lower
    triangle including the diagonal."""
    importance: list[float] = field(default_factory=list)
    """For each step: relative error of the final latents per relative error of the step's residual."""
    schedules: dict[int, list[int]] = field(default_factory=dict)
    """Number of computed steps -> the steps that a search found best, counted from 1."""

    samplers: dict[int, FittedSolver] = field(default_factory=dict)
    """Number of evaluations -> the sampler that reaches with them what the calibration's own reaches in all its steps,
    for `sampler=fitted`."""
    caches: dict[int, FittedWeights] = field(default_factory=dict)
    """Number of computed steps -> schedule and weights, for `cache=fitted`."""

    @property
    def schedule_weights(self) -> tuple[float, ...] | None:
        """By which an error at each step counts in the choice of a schedule; None: all the same.

        The square root of the importance: the importance itself neglects what many less important steps add up to.
        """
        return tuple(value**0.5 for value in self.importance) or None

    @property
    def steps(self) -> int:
        """Calls of the denoiser per guidance branch."""
        return len(self.sigmas)


def build_key(config: Config) -> Key:
    """The key of the calibration that a run needs.

    Raises:
        Unfit: the graph has no denoising stage, or several, each of which would need its own calibration.
    """
    stages = {
        name: options for name, options in resolve_stage_options(config).items() if isinstance(options, DenoiseOptions)
    }
    if len(stages) != 1:
        raise Unfit(
            f"graph.stages: {len(stages)} of them denoise ({', '.join(stages) or 'none'}); a calibration belongs to one"
        )
    ((name, options),) = stages.items()
    model, adapters = config.model, config.adapters
    key: Key = {"model": model.name, "repo": model.repo, "init": model.init.value, "guidance": model.guidance.value}
    key |= _list_non_defaults(model, "model", leave_out=NOT_IN_KEY)
    if adapters.name not in ("none", "textual_inversion"):
        key |= {"adapters": adapters.name, **_list_non_defaults(adapters, "adapters", leave_out=NOT_IN_ADAPTER_KEY)}
    if config.quant.name != "none":
        key |= {"quant": config.quant.name, **_list_non_defaults(config.quant, "quant", leave_out=("name", "keep"))}
    key |= {"sampler": options.sampler.name, **_list_non_defaults(options.sampler, "sampler", leave_out=("name",))}
    key |= {at: getattr(options, at) for at in ("steps", "guidance_scale", "width", "height", "num_frames")}
    inputs, family = config.graph.stages[name].inputs, find_implementation("model", model)
    if "image" in inputs or "latents" in inputs:
        key["starts"] = "latents" if "latents" in inputs else "image"
        if family.kind == "video" or starts_from_image(family, infer_task(family.kind, inputs)):
            key["strength"] = options.strength
    return {at: value for at, value in key.items() if value is not None}


def drop_quantization(key: Key) -> Key:
    """The key of the same run without quantization."""
    return {at: value for at, value in key.items() if at.partition(".")[0] != "quant"}


def _list_non_defaults(options: Any, prefix: str, *, leave_out: Iterable[str]) -> Key:
    """Values that differ from the defaults of their class, so that an option added later leaves old keys unchanged."""
    key: Key = {}
    for option in fields(type(options)):
        value = getattr(options, option.name)
        default = option.default_factory() if callable(option.default_factory) else option.default
        if option.name not in leave_out and value != default:
            plain = value.value if isinstance(value, Enum) else value
            if isinstance(value, list):
                plain = [_list_non_defaults(e, "", leave_out=()) if is_dataclass(e) else e for e in value]
            key[f"{prefix}.{option.name}"] = plain if isinstance(plain, str | int | float | bool) else str(plain)
    return key


def format_key(key: Key) -> str:
    """A key as text, `model=flux repo=... steps=28`: the form in which a resolved config carries it."""
    return " ".join(f"{name}={_format_value(value)}" for name, value in key.items())


def _format_value(value: str | float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def compare_keys(wanted: Key, available: Key) -> list[tuple[str, str, str]]:
    """Where two keys differ: (name, available value, wanted value); `null` where one of them has no value."""
    names = [*wanted, *(name for name in available if name not in wanted)]
    pairs = [
        (name, _format_value(available.get(name, "null")), _format_value(wanted.get(name, "null"))) for name in names
    ]
    return [pair for pair in pairs if pair[1] != pair[2]]


def build_file_name(key: Key) -> str:
    """The file name of a calibration, such as `demo-28-1f0c2a9b.yaml`; different for each key."""
    model = Path(str(key["repo"])).stem if key.get("init") == "pretrained" else f"{key['model']}-{key['init']}"
    name = "".join(c if c.isalnum() or c in "._" else "-" for c in model)
    return f"{name}-{key['steps']}-{sha256(format_key(key).encode()).hexdigest()[:8]}.yaml"


def identify_model(key: Key) -> tuple[str, str, str]:
    """The part of the key that all calibrations of one model share."""
    return str(key["model"]), str(key["repo"]), str(key["init"])
