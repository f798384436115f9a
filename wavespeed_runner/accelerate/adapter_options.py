"""Typed options of the config group `adapters`. For several adapters, `path` and its companions are lists."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config.schema import AdaptersConfig
from ..errors import ConfigError
from ..inputs.limits import MAX_ADAPTERS
from ..models.weights.checkpoint import find_local_path
from ..models.weights.hub import explain_loading_errors
from ..models.weights.identity import find_downloaded_commit
from ..models.weights.safetensors_file import find_damage
from ..registry import register


@dataclass(kw_only=True)
class NoAdapters(AdaptersConfig):
    """The model without adapters."""

    name: str = "none"
    path: Any = None


@dataclass(kw_only=True)
class Lora(AdaptersConfig):
    """LoRA, low-rank updates of weights, https://arxiv.org/abs/2106.09685. For several, give lists of equal length."""

    name: str = "lora"
    weight: Any = 1.0
    """Strength: 0 has no effect, 1 is as trained; one number, or one for each path."""
    file: Any = None
    """File in a hub repository; null: pytorch_lora_weights.safetensors. One, or one for each path."""
    component: Any = None
    """`transformer_2`: load into the second denoiser of a model with two (Wan 2.2). Null: into the first, and into the
    text encoders that the file has updates for. One, or one for each path."""
    models: list[str] = field(default_factory=list)
    """Families (`model.name`) that it is for; empty: not known."""
    steps: int | None = None
    """Of a LoRA for few steps: how many it was distilled for. The run has them unless `steps` is given."""
    guidance_scale: float | None = None
    """The scale that it was distilled for. The run has it unless `guidance_scale` is given."""
    sampler: dict[str, Any] | None = None
    """The sampler that its authors use, with options, as in `{name: euler, timestep_spacing: trailing}`. The run has it
    where `sampler` is `default`."""
    fuse: bool = False
    """Add it to the model's weights once instead of in every step: faster, but rounded to `model.dtype`."""

    def __post_init__(self) -> None:
        """Raises ConfigError for lists of different lengths, or a weight that is no number."""
        _check_lengths(self, "weight", "file", "component")
        for weight in as_list(self.weight):
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                raise ConfigError(f"adapters.weight={weight}: a number is needed")


@dataclass(kw_only=True)
class TextualInversion(AdaptersConfig):
    """Textual inversion, learned tokens for the text encoder, https://arxiv.org/abs/2208.01618."""

    name: str = "textual_inversion"
    token: Any = None
    """The word in prompts that stands for all vectors of a file; null: the one that the file names. One, or one for
    each path."""
    file: Any = None
    """File in a hub repository; null: learned_embeds.safetensors. One, or one for each path."""

    def __post_init__(self) -> None:
        """Raises ConfigError for lists of different lengths, or a token that is no word."""
        _check_lengths(self, "token", "file")
        for token in as_list(self.token):
            if token is not None and not (isinstance(token, str) and token.strip()):
                raise ConfigError(f"adapters.token={token}: a word is needed")


register("adapters", "none", NoAdapters)(None)
register("adapters", "lora", Lora)(None)
register("adapters", "textual_inversion", TextualInversion)(None)


def as_list(value: Any) -> list[Any]:
    """A list of one or of several values."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _check_lengths(adapters: AdaptersConfig, *keys: str) -> None:
    """Refuses no path at all, too many, and lists whose length is not the number of paths."""
    paths = as_list(adapters.path)
    if not paths:
        raise ConfigError("adapters.path=[]: at least one is needed; use adapters=none for none")
    if len(paths) > MAX_ADAPTERS:
        raise ConfigError(f"adapters.path: {len(paths)} adapters; at most {MAX_ADAPTERS} are loaded together")
    for key in keys:
        value = getattr(adapters, key)
        if isinstance(value, list) and len(value) != len(paths):
            raise ConfigError(f"adapters.{key}={value}: {len(value)} values for {len(paths)} of adapters.path")


def values_per_path(adapters: AdaptersConfig, key: str) -> list[Any]:
    """The values of an option, one for each path: a single value is repeated."""
    values = as_list(getattr(adapters, key))
    return values * len(as_list(adapters.path)) if len(values) == 1 else values


def list_stand_ins(adapters: Lora) -> list[str]:
    """The paths for which a tiny model gets random updates: those of the hub, whose files are for the full model."""
    paths = [path for path in as_list(adapters.path) if isinstance(path, str)]
    return list(dict.fromkeys(path for path in paths if find_local_path(path) is None))


def fetch_file(path: str, file: str) -> Path:
    """Returns a local file, or downloads one from a hub repository at the commit that is part of the store keys.

    Args:
        path: a local file, or a hub id.
        file: the file in the hub repository.

    Raises:
        RunError: it cannot be downloaded or is damaged.
    """
    local = find_local_path(path)
    if local is not None:
        return local
    from huggingface_hub import hf_hub_download

    with explain_loading_errors(path, key="adapters.path"):
        downloaded = Path(hf_hub_download(path, file, revision=find_downloaded_commit(path)))
        if flaw := find_damage(downloaded):
            raise ValueError(f"{file} is damaged: {flaw}")
    return downloaded
