"""What uncached runs of one model have shown, and the key of the runs that it belongs to.

`recording.py` makes it, `calibration_file.py` writes and reads it, `filling.py` takes numbers out of it. No torch here:
the plan asks. Steps are calls of the denoiser; every triangle is a list of rows, each one longer than the one before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...config.denoise_options import DenoiseOptions
from ...config.resolve import resolve_stage_options
from ...config.schema import MODEL_DEFAULT_KEYS, Config
from ...errors import Unfit

Key = dict[str, Any]
"""What a calibration belongs to: names and plain values, in a fixed order. What is null is left out."""
Triangle = list[list[float]]

NOT_IN_KEY = ("name", "repo", "init", "guidance", "dtype", "weights", "fps", *MODEL_DEFAULT_KEYS)
"""Keys of a model that are in the calibration's key anyway, or do not change what is recorded. Not `dtype` either: it
rounds the numbers, and does not bend them."""


@dataclass(frozen=True, kw_only=True)
class Polynomial:
    """TeaCache's fit: change of the modulated input since the step before -> change of the denoiser's output."""

    coefficients: list[float]
    """Highest degree first."""
    range: list[float]
    """[lowest, highest] change that was seen."""
    error: float
    """Root mean square of what the fit leaves, in units of the output's relative change."""
    points: int


@dataclass(frozen=True, kw_only=True)
class ModelTrace:
    """What criteria that watch the model are given, from the second step on."""

    input: list[float | None]
    """c = mean|x - x_p| / mean|out_p|, p the step before."""
    rate: list[list[float | None]]
    """k = mean|out - out_c| / mean|x - x_p|; row i (from 0) is of step i + 1, with c each of the steps 0 to i: the last
    computed one before it, whose output stands in for those of the steps between."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    key: Key
    made: dict[str, Any]
    """How: prompts, seeds, versions, device, dtype."""
    sigmas: list[float] = field(default_factory=list)
    """Noise level of each step."""
    signals: dict[str, dict[str, list[list[float | None]]]] = field(default_factory=dict)
    """Signal -> guidance branch -> relative changes, averaged over the prompts. Row i (from 0) is of step i + 1:
    against each of the steps 0 to i, so that its last number is the change since the step before. Null: 0 / 0."""
    model: dict[str, ModelTrace] = field(default_factory=dict)
    """By guidance branch."""
    polynomial: Polynomial | None = None
    ratios: list[float] = field(default_factory=list)
    """MagCache: mean over tokens of |r_t| / |r_(t-1)|, r the residual of all blocks; 1 first."""
    gram: dict[int, Triangle] = field(default_factory=dict)
    """First blocks that always run -> Gram matrix of the residual behind them, lower triangle with the diagonal."""
    schedules: dict[int, list[int]] = field(default_factory=dict)
    """Number of computed steps -> which, counted from 1, as a search has found them."""

    @property
    def steps(self) -> int:
        """Calls of the denoiser, of one guidance branch."""
        return len(self.sigmas)


def build_key(config: Config) -> Key:
    """What a run's calibration must have been made for.

    Raises:
        ConfigError: the graph has no denoising stage, or several, which would need a calibration each.
    """
    stages = {name: found for name, found in resolve_stage_options(config).items() if isinstance(found, DenoiseOptions)}
    if len(stages) != 1:
        raise Unfit(
            f"graph.stages: {len(stages)} of them denoise ({', '.join(stages) or 'none'}); a calibration belongs to one"
        )
    ((name, options),) = stages.items()
    model, adapters = config.model, config.adapters
    key: Key = {"model": model.name, "repo": model.repo, "init": model.init.value, "guidance": model.guidance.value}
    key |= _differing(model, "model", leave_out=NOT_IN_KEY)
    if adapters.name not in ("none", "textual_inversion"):
        key |= {"adapters": adapters.name, **_differing(adapters, "adapters", leave_out=("name",))}
    key |= {"sampler": options.sampler.name, **_differing(options.sampler, "sampler", leave_out=("name",))}
    key |= {at: getattr(options, at) for at in ("steps", "guidance_scale", "width", "height", "num_frames")}
    inputs = config.graph.stages[name].inputs
    if "image" in inputs or "latents" in inputs:
        key |= {"starts": "latents" if "latents" in inputs else "image", "strength": options.strength}
    return {at: value for at, value in key.items() if value is not None}


def _differing(options: Any, prefix: str, *, leave_out: Iterable[str]) -> Key:
    """The values that are not the defaults of their class: an option added later leaves old keys as they are."""
    found = {}
    default = {one.name: one for one in fields(type(options))}
    for name, one in default.items():
        value = getattr(options, name)
        usual = one.default_factory() if callable(one.default_factory) else one.default
        if name not in leave_out and value != usual:
            found[f"{prefix}.{name}"] = value.value if isinstance(value, Enum) else value
    return {name: value if isinstance(value, str | int | float | bool) else str(value) for name, value in found.items()}


def format_key(key: Key) -> str:
    """`model=flux repo=... steps=28`: the canonical form, which a filled config carries."""
    return " ".join(f"{name}={_plain(value)}" for name, value in key.items())


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def compare_keys(wanted: Key, there: Key) -> list[tuple[str, str, str]]:
    """(name, what is there, what is wanted) of all that differs; `null` for what one of them lacks."""
    names = [*wanted, *(name for name in there if name not in wanted)]
    pairs = [(name, _plain(there.get(name, "null")), _plain(wanted.get(name, "null"))) for name in names]
    return [pair for pair in pairs if pair[1] != pair[2]]


def build_file_name(key: Key) -> str:
    """`demo-28-1f0c2a9b.yaml`: one name for each key."""
    model = Path(str(key["repo"])).stem if key.get("init") == "pretrained" else f"{key['model']}-{key['init']}"
    name = "".join(c if c.isalnum() or c in "._" else "-" for c in model)
    return f"{name}-{key['steps']}-{sha256(format_key(key).encode()).hexdigest()[:8]}.yaml"


def model_of(key: Key) -> tuple[str, str, str]:
    """What two calibrations of one model share."""
    return str(key["model"]), str(key["repo"]), str(key["init"])
