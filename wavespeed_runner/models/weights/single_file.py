"""Reads a checkpoint that is one .safetensors file: a denoiser alone, or several components in the original layout."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...config.schema import ModelConfig
from ...errors import RunError
from ..family import Family
from .hub import cache_only, diffusers_class, explained, quiet, refuse_missing
from .random_init import in_float32


def parts_of(
    family: Family, model: ModelConfig, path: Path, components: str, source: str, commit: str | None, dtype: Any
) -> dict[str, Any]:
    """Component -> module, of all that the file holds.

    components: what completes the file, as the user named it. source: the same, as diffusers opens it; says how the
    modules are shaped. commit: its revision.

    Raises:
        RunError: the file holds no denoiser, or a part of it is incomplete or cannot be read.
    """
    from diffusers import DiffusionPipeline

    reading: dict[str, Any] = {"config": source, "dtype": dtype}
    index: dict[str, Any] = {}
    with explained(components, key="model.components"):
        reading["local_files_only"] = cache_only(components, Path(source) if Path(source).is_dir() else None)
        reading |= {"revision": commit} if commit else {}
        index = DiffusionPipeline.load_config(source, **_where(reading))
    names: list[str] = []
    with explained(model.repo):
        names = _names(path)
    held = {part for part, begins in family.single_file.items() if any(name.startswith(begins) for name in names)}
    if not held or held == {family.denoiser}:
        kind = index[family.denoiser][1]
        return {family.denoiser: _denoiser(kind, family.denoiser, model, path, components, reading)}
    if family.denoiser not in held:
        raise RunError(f"model.repo={model.repo}: it holds {', '.join(sorted(held))} and no {family.denoiser}")
    pipe = _several(family, model, path, held, reading)
    predicts = pipe.scheduler.config.get("prediction_type")
    if "v_pred" in names and predicts != "v_prediction":  # an empty tensor with which fine-tunes mark themselves
        raise RunError(
            f"model.repo={model.repo}: it predicts velocity, but the scheduler of model.components={components} takes "
            f"{predicts}; give a diffusers folder whose scheduler has prediction_type v_prediction"
        )
    parts = {name: getattr(pipe, name) for name in sorted(held)}
    missing = {name: [key for key, weight in part.named_parameters() if weight.is_meta] for name, part in parts.items()}
    refuse_missing(missing, f"model.repo={model.repo}")
    return parts


def _where(reading: dict[str, Any]) -> dict[str, Any]:
    """Which of its files are read."""
    return {name: reading[name] for name in ("local_files_only", "revision") if name in reading}


def _names(path: Path) -> list[str]:
    """Names of the tensors in a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _denoiser(kind: str, name: str, model: ModelConfig, path: Path, components: str, reading: dict[str, Any]) -> Any:
    """The denoiser from a file that holds nothing else, in diffusers' or in the original layout."""
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    module = diffusers_class(kind)
    if not hasattr(module, "from_single_file"):
        raise RunError(f"model.repo={model.repo}: diffusers reads no single file of a {kind}; give a diffusers folder")
    with explained(components, key="model.components"):
        module.load_config(reading["config"], subfolder=name, **_where(reading))
    with explained(model.repo), quiet():
        if kind not in SINGLE_FILE_LOADABLE_CLASSES:
            return _own_layout(module, name, path, reading)
        if not module._keep_in_fp32_modules:
            return module.from_single_file(str(path), subfolder=name, **reading)
        return _cast(module.from_single_file(str(path), subfolder=name, **{**reading, "dtype": None}), reading["dtype"])


def _cast(module: Any, dtype: Any) -> Any:
    """In place, as loading from a folder does it: `from_single_file` casts what the model keeps in float32 too."""
    import torch

    kept = in_float32(module, dtype)
    for name, parameter in module.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if kept.intersection(name.split(".")) else dtype)
    return module


def _own_layout(module: Any, name: str, path: Path, reading: dict[str, Any]) -> Any:
    """The denoiser from a file in diffusers' layout, of a class for which diffusers knows no other."""
    config = module.load_config(reading["config"], subfolder=name, **_where(reading))
    with TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config), encoding="utf-8")
        Path(folder, "diffusion_pytorch_model.safetensors").symlink_to(path.resolve())
        return module.from_pretrained(folder, dtype=reading["dtype"], use_safetensors=True)


def _several(family: Family, model: ModelConfig, path: Path, held: set[str], reading: dict[str, Any]) -> Any:
    """A pipeline of the components that the file holds. Fine-tunes change text encoders and VAE too."""

    kind = diffusers_class(next(iter(family.tasks.values())))
    absent = dict.fromkeys(family.single_file.keys() - held)
    with explained(model.repo), quiet():
        return kind.from_single_file(str(path), **family.options, **absent, **reading)
