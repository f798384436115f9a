"""Adapters: what is learned on top of a model and changes what it draws, so the reference has it too.

Loading, weighing and fusing are diffusers' and PEFT's own; see
https://huggingface.co/docs/diffusers/using-diffusers/loading_adapters. Added here: files that cannot be loaded, or of
which a part finds no place in the model, are errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import AdaptersConfig
from ..errors import ConfigError, RunError, one_line
from ..models import checkpoint
from ..registry import register

ALLOWED = "allowed: a .safetensors file, pkg://package/file, or a hub id 'owner/name'"


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
    """Which file of a hub repository that has several; one name, or one for each path."""
    fuse: bool = False
    """Add it to the model's weights once, instead of at every step: faster, and rounded to `model.dtype`."""

    def __post_init__(self) -> None:
        _refuse_uneven(self, "weight", "file")
        for weight in _listed(self.weight):
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                raise ConfigError(f"adapters.weight={weight}: a number is needed")


@dataclass(kw_only=True)
class TextualInversion(AdaptersConfig):
    """Learned tokens for the text encoder, https://arxiv.org/abs/2208.01618."""

    name: str = "textual_inversion"
    token: Any = None
    """The word in prompts that stands for it; null: the one that the file names. One, or one for each path."""

    def __post_init__(self) -> None:
        _refuse_uneven(self, "token")


register("adapters", "none", NoAdapters)(None)
register("adapters", "lora", Lora)(None)
register("adapters", "textual_inversion", TextualInversion)(None)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _refuse_uneven(adapters: Any, *keys: str) -> None:
    paths = _listed(adapters.path)
    if not paths:
        raise ConfigError("adapters.path=[]: at least one is needed; adapters=none for none")
    for key in keys:
        value = getattr(adapters, key)
        if isinstance(value, list) and len(value) != len(paths):
            raise ConfigError(f"adapters.{key}={value}: {len(value)} values for {len(paths)} of adapters.path")


def _each(adapters: Any, key: str) -> list[Any]:
    """The values of a key, one for each path."""
    values = _listed(getattr(adapters, key))
    return values * len(_listed(adapters.path)) if len(values) == 1 else values


def inspect(adapters: AdaptersConfig) -> None:
    """Refuses, before anything is loaded, a file that is not there, is a pickle or is damaged.

    Raises:
        ConfigError: names the path.
    """
    for path in _listed(adapters.path) if adapters.name != "none" else []:
        where = f"adapters.path={path}"
        if not isinstance(path, str):
            raise ConfigError(f"{where}: {ALLOWED}")
        file = checkpoint.local(path)
        if file is None:
            continue
        if file.suffix.lower() in checkpoint.PICKLES:
            raise ConfigError(f"{where}: {checkpoint.CONVERT}")
        if not file.is_file() or file.suffix.lower() != ".safetensors":
            raise ConfigError(f"{where}: no such file; {ALLOWED}")
        if wrong := checkpoint.flaw(file):
            raise ConfigError(f"{where}: damaged: {wrong}; download or copy it again")


def identity(adapters: AdaptersConfig) -> list[str]:
    """Says which adapters these are, wherever they lie."""
    paths = _listed(adapters.path) if adapters.name != "none" else []
    return [checkpoint.identity(path, None) for path in paths]


def apply(pipe: Any, adapters: AdaptersConfig) -> None:
    """Loads the adapters into the pipeline's modules.

    Raises:
        RunError: a file is not for this model.
    """
    if isinstance(adapters, Lora):
        _load_loras(pipe, adapters)
    elif isinstance(adapters, TextualInversion):
        _load_tokens(pipe, adapters)


def _load_loras(pipe: Any, adapters: Lora) -> None:
    names = [f"lora_{index}" for index, _ in enumerate(_listed(adapters.path))]
    for name, path, file in zip(names, _listed(adapters.path), _each(adapters, "file"), strict=True):
        local = checkpoint.local(path)
        try:
            options = {"weight_name": file} if file else {}
            pipe.load_lora_weights(str(local or path), adapter_name=name, use_safetensors=True, **options)
        except Exception as error:
            raise RunError(f"adapters.path={path}: does not fit this model: {one_line(error)}") from error
        _refuse_leftovers(pipe, name, path, local)
    weights = [float(weight) for weight in _each(adapters, "weight")]
    pipe.set_adapters(names, weights)
    if adapters.fuse:
        pipe.fuse_lora(adapter_names=names, safe_fusing=True)
        pipe.unload_lora_weights()


def _refuse_leftovers(pipe: Any, name: str, path: str, file: Path | None) -> None:
    """diffusers only logs what it has no place for. A file may be converted to more tensors, never to fewer."""
    placed = sum(f".{name}." in key for part in _modules(pipe).values() for key, _ in part.named_parameters())
    wanted = len([key for key in _keys(file) if not key.endswith((".alpha", ".dora_scale"))]) if file else 1
    if placed < wanted:
        raise RunError(
            f"adapters.path={path}: does not fit this model: {wanted - placed} of its {wanted} tensors found no place"
        )


def _keys(file: Path) -> Sequence[str]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return list(opened.keys())


def _load_tokens(pipe: Any, adapters: TextualInversion) -> None:
    for path, token in zip(_listed(adapters.path), _each(adapters, "token"), strict=True):
        local = checkpoint.local(path)
        try:
            pipe.load_textual_inversion(str(local or path), token=token, use_safetensors=True)
        except Exception as error:
            raise RunError(f"adapters.path={path}: does not fit this model: {one_line(error)}") from error


def _modules(pipe: Any) -> dict[str, Any]:
    import torch

    return {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}


def evidence(pipe: Any, adapters: AdaptersConfig) -> dict[str, Any] | None:
    """The record's `engaged.adapters`: layers that carry each LoRA, or tokens that were added. None for nothing."""
    if isinstance(adapters, Lora):
        weights = [float(weight) for weight in _each(adapters, "weight")]
        layers = {
            part: sum(hasattr(layer, "lora_A") for layer in module.modules()) for part, module in _modules(pipe).items()
        }
        return {"lora": weights, "fused": adapters.fuse, "layers": {part: n for part, n in layers.items() if n}}
    if isinstance(adapters, TextualInversion):
        added = [token for token in pipe.tokenizer.get_added_vocab() if token not in pipe.tokenizer.all_special_tokens]
        return {"tokens": sorted(added)}
    return None
