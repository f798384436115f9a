"""What a single file says of how its model is sampled: empty tensors that stand for a flag, and metadata.

Flags as ComfyUI's `supported_models.py` reads them (SDXL): `v_pred` for prediction of velocity, `ztsnr` beside it for
training with zero terminal SNR, https://arxiv.org/abs/2305.08891, and `edm_...` for other noise levels. Metadata:
https://github.com/Stability-AI/ModelSpec, which kohya's sd-scripts write. No torch is needed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config.schema import Init, ModelConfig
from ...errors import ConfigError, RunError
from ...inputs.documents import read_safetensors_header
from ...inputs.files import InputError
from ..family import Family
from .checkpoint import find_local_path
from .folder_gate import read_config

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

PREDICTIONS = {"v": "v_prediction", "epsilon": "epsilon"}
"""`modelspec.prediction_type` -> diffusers' `prediction_type`."""
FLAGS, EDM = ("v_pred", "ztsnr"), "edm_"
"""Names of tensors that are flags, and how those of EDM models begin."""
MODELS = {"stable-diffusion-v1": "sd15", "stable-diffusion-v2": "sd21", "stable-diffusion-xl": "sdxl"}
MODELS |= {"flux-1-schnell": "flux_schnell", "flux-1": "flux", "chroma": "chroma", "lumina-2": "lumina2"}
"""Beginning of `modelspec.architecture` -> the option of `model` that runs a file of it."""


@dataclass(frozen=True, kw_only=True)
class FileFlags:
    """What a file sets of the scheduler."""

    prediction_type: str | None = None
    """diffusers' word; None: the file says nothing."""
    zero_snr: bool = False
    """The last training step is pure noise."""
    source: str = ""
    """Which of the file's names say so."""

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of the scheduler. Trailing: with zero SNR the last training step must be among the steps."""
        zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if self.zero_snr else {}
        return ({"prediction_type": self.prediction_type} if self.prediction_type else {}) | zero


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file: the entries that are texts.

    Raises:
        OSError: there is no such file.
        InputError: it is damaged.
    """
    metadata = read_safetensors_header(path)[0].get("__metadata__")
    items = metadata.items() if isinstance(metadata, dict) else ()
    return {key: value for key, value in items if isinstance(value, str)}


def read_flags(path: Path, where: str) -> FileFlags:
    """Reads the flags of an undamaged safetensors file; none of files in other formats.

    Args:
        path: the file.
        where: its config key and value, for messages.

    Raises:
        ConfigError: the file contradicts itself, or is for noise levels that no scheduler here has.
    """
    if path.suffix.lower() != ".safetensors":
        return FileFlags()
    stat = path.stat()
    header, said = _read(path, (stat.st_mtime_ns, stat.st_size, stat.st_ino))
    if edm := next((name for name in header if name.startswith(EDM)), None):
        raise ConfigError(
            f"{where}: its {edm} says that it is an EDM model, whose noise levels are not supported; use "
            "a diffusers folder of it with its own scheduler"
        )
    if said is not None and said not in PREDICTIONS:
        raise ConfigError(f"{where}: its modelspec.prediction_type={said!r:.40}: {' or '.join(PREDICTIONS)} is known")
    if "v_pred" in header and said == "epsilon":
        raise ConfigError(f"{where}: its tensor v_pred and its modelspec.prediction_type=epsilon contradict each other")
    if "v_pred" in header:
        zero = "ztsnr" in header
        return FileFlags(prediction_type="v_prediction", zero_snr=zero, source="v_pred" + " and ztsnr" * zero)
    if "ztsnr" in header:
        raise ConfigError(
            f"{where}: it has the tensor ztsnr (zero terminal SNR) without v_pred, but pure noise can only "
            "be denoised by predicting velocity; add an empty tensor v_pred if it does"
        )
    return FileFlags(prediction_type=PREDICTIONS[said], source="modelspec.prediction_type") if said else FileFlags()


@lru_cache(maxsize=16)
def _read(path: Path, version: tuple[int, ...]) -> tuple[tuple[str, ...], str | None]:
    """Names of the tensors that are flags, and `modelspec.prediction_type`. version: changes with the file."""
    names = tuple(name for name in read_safetensors_header(path)[0] if name in FLAGS or name.startswith(EDM))
    return names, read_metadata(path).get("modelspec.prediction_type")


def find_flags(family: Family, model: ModelConfig) -> FileFlags:
    """The flags of a pretrained diffusion model that is a single file; none of others.

    Raises:
        ConfigError: as `read_flags`. A file that is damaged has no flags: the plan refuses it elsewhere.
    """
    path = find_local_path(model.repo) if model.init is Init.pretrained else None
    if path is None or not path.is_file() or family.schedule != "diffusion":
        return FileFlags()
    try:
        return read_flags(path, f"model.repo={model.repo}")
    except (InputError, OSError):
        return FileFlags()


def find_metadata(model: ModelConfig) -> dict[str, str]:
    """Metadata of a pretrained model that is one safetensors file; none of others, and of one that is damaged."""
    path = find_local_path(model.repo) if model.init is Init.pretrained else None
    if path is None or path.suffix.lower() != ".safetensors":
        return {}
    try:
        stat = path.stat()
        return _read_metadata(path, (stat.st_mtime_ns, stat.st_size, stat.st_ino))
    except (InputError, OSError):
        return {}


@lru_cache(maxsize=16)
def _read_metadata(path: Path, version: tuple[int, ...]) -> dict[str, str]:
    return read_metadata(path)


def count_skip(model: ModelConfig) -> int:
    """The clip skip of a run, as kohya counts it for Stable Diffusion: from 1."""
    return 1 + (getattr(model, "clip_skip", None) or 0)


def find_clip_skip(model: ModelConfig) -> int | None:
    """The clip skip that a single file of Stable Diffusion was trained with, and this run has not; None: nothing."""
    said = find_metadata(model).get("modelspec.encoder_layer", "")
    is_other = model.name == "sd" and re.fullmatch(r"[1-9][0-9]?", said) and int(said) != count_skip(model)
    return int(said) if is_other else None


def suggest_model(model: ModelConfig) -> str:
    """The overrides with which a single file that is another model, or a LoRA, is what it says that it is."""
    said = find_metadata(model).get("modelspec.architecture", "")
    if said.endswith("/lora"):
        return f"adapters=lora adapters.path={model.repo}"
    option = next((option for start, option in MODELS.items() if said.startswith(start)), "")
    return f"model={option}" if option else "the model that it is for"


def find_scheduler(family: Family, model: ModelConfig) -> dict[str, Any] | None:
    """The scheduler's configuration of a local diffusion model, with its file's flags; None where it is not known."""
    if model.init is not Init.pretrained or family.schedule != "diffusion":
        return None
    known, settings = _read_scheduler(model), find_flags(family, model).settings
    return settings or None if known is None else known | settings


def _read_scheduler(model: ModelConfig) -> dict[str, Any] | None:
    """The scheduler's configuration in local folders of a model; None without one."""
    for repo in (model.repo, model.components):
        path = find_local_path(repo) if repo else None
        if path and (file := path / "scheduler" / "scheduler_config.json").is_file():
            return read_config(f"model.repo={repo}", file)
    return None


def find_changes(family: Family, model: ModelConfig) -> tuple[dict[str, Any], str]:
    """(what a file sets of the scheduler otherwise than its configuration, the file's names that say so).

    Where that is not known, as of a repository in the hub, all that the file sets.
    """
    flags = find_flags(family, model)
    known = _read_scheduler(model) if flags.settings else None
    return (flags.settings if known is None else _compare(flags, known)), flags.source


def _compare(flags: FileFlags, config: Mapping[str, Any]) -> dict[str, Any]:
    """What flags change of a scheduler's configuration, in which epsilon is the default."""
    given = {"prediction_type": "epsilon"} | dict(config)
    return {key: value for key, value in flags.settings.items() if given.get(key) != value}


def has_zero_snr(family: Family, model: ModelConfig) -> bool:
    """True if a model is known, before it is loaded, to be sampled with zero terminal SNR."""
    return (find_scheduler(family, model) or {}).get("rescale_betas_zero_snr") is True


def find_prediction_type(family: Family, model: ModelConfig) -> str | None:
    """What a model predicts, in diffusers' words; None where it is not known before it is loaded."""
    config = find_scheduler(family, model)
    return None if config is None else str(config.get("prediction_type", "epsilon"))


def set_flags(scheduler: SchedulerMixin, flags: FileFlags, where: str) -> SchedulerMixin:
    """The scheduler with what a file sets of it.

    Raises:
        RunError: its class has no such setting.
    """
    from inspect import signature

    changes = _compare(flags, scheduler.config)
    missing = sorted(changes.keys() - signature(type(scheduler).__init__).parameters.keys())
    if missing:
        raise RunError(
            f"{where}: its {flags.source} sets {', '.join(missing)}, which {type(scheduler).__name__} does not have; "
            "use model.components=FOLDER of a model with EulerDiscreteScheduler or DDIMScheduler"
        )
    return type(scheduler).from_config(scheduler.config, **changes) if changes else scheduler
