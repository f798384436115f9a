"""The typed keys of adapters. Several at once: `path` and what goes with it are lists of equal lengths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.schema import AdaptersConfig
from ..errors import ConfigError
from ..models.weights import checkpoint
from ..models.weights.hub import explained
from ..registry import register


@dataclass(kw_only=True)
class NoAdapters(AdaptersConfig):
    """The model as it is."""

    name: str = "none"
    path: Any = None


@dataclass(kw_only=True)
class Lora(AdaptersConfig):
    """Low-rank updates of weights, https://arxiv.org/abs/2106.09685. Several at once: lists of equal lengths."""

    name: str = "lora"
    weight: Any = 1.0
    """How strongly it acts: 0 is not at all, 1 as it was trained; one number, or one for each path."""
    file: Any = None
    """Which file of a hub repository; null: pytorch_lora_weights.safetensors. One, or one for each path."""
    component: Any = None
    """`transformer_2`: into the second denoiser of models with two (Wan 2.2). Null: into the first, and the text
    encoders that the file has updates of. One, or one for each path."""
    fuse: bool = False
    """Add it to the model's weights once, instead of at every step: faster, and rounded to `model.dtype`."""

    def __post_init__(self) -> None:
        _check_lengths(self, "weight", "file", "component")
        for weight in as_list(self.weight):
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                raise ConfigError(f"adapters.weight={weight}: a number is needed")


@dataclass(kw_only=True)
class TextualInversion(AdaptersConfig):
    """Learned tokens for the text encoder, https://arxiv.org/abs/2208.01618."""

    name: str = "textual_inversion"
    token: Any = None
    """The word in prompts that stands for all vectors of a file; null: the one that the file names. One, or one for
    each path."""
    file: Any = None
    """Which file of a hub repository; null: learned_embeds.safetensors. One, or one for each path."""

    def __post_init__(self) -> None:
        _check_lengths(self, "token", "file")
        for token in as_list(self.token):
            if token is not None and not (isinstance(token, str) and token.strip()):
                raise ConfigError(f"adapters.token={token}: a word is needed")


register("adapters", "none", NoAdapters)(None)
register("adapters", "lora", Lora)(None)
register("adapters", "textual_inversion", TextualInversion)(None)


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _check_lengths(adapters: Any, *keys: str) -> None:
    paths = as_list(adapters.path)
    if not paths:
        raise ConfigError("adapters.path=[]: at least one is needed; adapters=none for none")
    for key in keys:
        value = getattr(adapters, key)
        if isinstance(value, list) and len(value) != len(paths):
            raise ConfigError(f"adapters.{key}={value}: {len(value)} values for {len(paths)} of adapters.path")


def values_per_path(adapters: Any, key: str) -> list[Any]:
    """The values of a key, one for each path."""
    values = as_list(getattr(adapters, key))
    return values * len(as_list(adapters.path)) if len(values) == 1 else values


def fetch_file(path: str, file: str) -> Path:
    """The local file, or that of a hub repository, at the commit that the store keys name.

    Raises:
        RunError: it cannot be had or is damaged.
    """
    local = checkpoint.local(path)
    if local is not None:
        return local
    from huggingface_hub import hf_hub_download

    with explained(path, key="adapters.path"):
        found = Path(hf_hub_download(path, file, revision=checkpoint.first_commit(path)))
        if wrong := checkpoint.flaw(found):
            raise ValueError(f"{file} is damaged: {wrong}")
    return found
