"""An autoencoder in the place of the model's own, `model.vae`: from the hub, a diffusers folder or a single file."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, RunError
from ..family import Family
from .checkpoint import (
    CONVERT_PICKLES,
    VARIANT,
    find_local_path,
    inspect_checkpoint,
    inspect_component_weights,
    is_single_file,
)
from .empty_module import build_empty
from .folder_gate import check_component, list_components, read_config
from .folder_models import load_models
from .hub import explain_loading_errors, fetch_component, get_diffusers_class, quiet_loading
from .identity import find_downloaded_commit
from .placement import drop_needless
from .safetensors_file import find_damage, list_weight_files
from .scales import find_scales, read_headers
from .tensors import Stored, load_tensors
from .trial import Candidate, refuse_unbuildable

if TYPE_CHECKING:
    import torch
    from torch import nn

KEY, NAME = "model.vae", "vae"
SPACE = ("scaling_factor", "shift_factor", "latents_mean", "latents_std", "latent_channels", "z_dim")
"""Entries of its configuration that say how latents look: those of another space are noise to the decoder."""
ALLOWED = "allowed: a hub id, a folder of an autoencoder or a whole model that diffusers saved, or a .safetensors file"


def inspect_vae(repo: str, weights: str | None) -> None:
    """Accepts any hub id, and local files that are complete and safe to load. Loads nothing.

    Args:
        repo: `model.vae`.
        weights: `model.weights`, the variant to load.

    Raises:
        ConfigError: nothing is there, no autoencoder, only pickles or several variants, or a damaged file.
    """
    path, where = find_local_path(repo), f"{KEY}={repo}"
    if path is None:
        return
    if path.suffix.lower() == ".gguf":
        raise ConfigError(f"{where}: autoencoders are not read from GGUF; {ALLOWED}")
    if not path.is_dir():
        inspect_checkpoint(repo, key=KEY)
        return
    folder = _find_folder(path)
    _inspect_config(where, folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ConfigError(f"{where}: it has no .safetensors file; {CONVERT_PICKLES}")
    for file in files:
        if damage := find_damage(file):
            raise ConfigError(f"{where}: {file.name} is damaged: {damage}; download or copy it again")
    inspect_component_weights(where, folder, _find_variant(where, folder, weights))


def _find_variant(where: str, folder: Path, weights: str | None) -> str | None:
    """The variant of the files to load: the one asked for, else files without one, else the only one there is.

    Raises:
        ConfigError: there are several.
    """
    variants = {found.group(1) for file in folder.glob("*.safetensors") if (found := VARIANT.search(file.name))}
    if weights in variants or not variants or list_weight_files(folder, None):
        return weights
    if len(variants) > 1:
        raise ConfigError(
            f"{where}: it holds only the variants {', '.join(sorted(variants))}; choose one with model.weights, or "
            "give one of the files"
        )
    return variants.pop()


def _find_folder(path: Path) -> Path:
    """The autoencoder's own folder, where a whole model is given."""
    return path / NAME if (path / "model_index.json").is_file() else path


def _inspect_config(where: str, folder: Path) -> dict[str, Any]:
    """The configuration in the folder of an autoencoder."""
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{where}: it has no {NAME}/config.json or config.json; {ALLOWED}")
    check_component(where, folder)
    config = read_config(where, folder / "config.json")
    if "Autoencoder" not in str(config.get("_class_name")):
        raise ConfigError(
            f"{where}: it holds a {str(config.get('_class_name'))[:80]}, which is no autoencoder; {ALLOWED}"
        )
    return config


def load_vae(
    family: Family, repo: str, model: str, configs: Path, dtype: torch.dtype, weights: str | None
) -> nn.Module:
    """Loads the autoencoder.

    Args:
        family: says whether it stays in float32.
        repo: `model.vae`.
        model: `key=value` of the model, for messages.
        configs: the model's folder, or its configurations alone, after `check_folder`. A single file is read as they
            say; a folder has its own, of the same class and the same space of latents.
        dtype: of the model.
        weights: `model.weights`, the variant to load.

    Raises:
        ConfigError: as `inspect_vae`, or a tensor is stored in a way that is not read.
        RunError: it cannot be loaded, lacks a weight, has another one, or is not for this model.
    """
    import torch

    inspect_vae(repo, weights)
    where, path = f"{KEY}={repo}", find_local_path(repo)
    index = list_components(model, configs)
    if NAME not in index or not (configs / NAME / "config.json").is_file():
        raise RunError(f"{where}: {model} has no {NAME}, so it could not take effect; remove {KEY}")
    class_name, config = index[NAME][1], read_config(model, configs / NAME / "config.json")
    dtype = torch.float32 if NAME in family.float32_components else dtype
    with explain_loading_errors(repo, key=KEY), quiet_loading():
        if path is not None and is_single_file(path):
            size, folder = path.stat().st_size, configs / NAME
            candidate = Candidate(
                name=NAME, library="diffusers", class_name=class_name, folder=folder, weight_bytes=size
            )
            refuse_unbuildable(model, [candidate])
            return _load_file(where, path, build_empty(get_diffusers_class(class_name), config), model, dtype)
        commit = None if path else find_downloaded_commit(repo)
        folder = _find_folder(path or fetch_component(repo, commit, NAME))
        _refuse_other(where, _inspect_config(where, folder), model, {**config, "_class_name": class_name})
        candidate = Candidate(name=NAME, library="diffusers", class_name=class_name, folder=folder)
        refuse_unbuildable(where, [candidate])
        models = load_models(where, [candidate], _find_variant(where, folder, weights), {"default": dtype})
    if NAME not in models:
        raise RunError(f"{where}: it has no .safetensors file; {CONVERT_PICKLES}")
    return models[NAME]


def _refuse_other(where: str, own: Mapping[str, Any], model: str, expected: Mapping[str, Any]) -> None:
    """Raises `RunError` for an autoencoder of another class, or of other latents than the model's."""
    ours, theirs = own["_class_name"], expected["_class_name"]
    if ours != theirs:
        tiny = "; for a tiny one use accelerate.tiny_vae" if ours == "AutoencoderTiny" else ""
        raise RunError(f"{where}: it is an {ours}, and {model} has an {theirs}; use one of that class{tiny}")
    # Configurations of older releases leave out what the class takes for granted.
    defaults = {name: value.default for name, value in signature(get_diffusers_class(ours)).parameters.items()}
    for key in SPACE:
        mine, models = (config.get(key, defaults.get(key)) for config in (own, expected))
        if mine != models:
            raise RunError(
                f"{where}: {key} is {str(mine)[:80]}, and in {model} {str(models)[:80]}: it was made for "
                "other latents; use one that was made for this model"
            )


def _load_file(where: str, path: Path, module: nn.Module, model: str, dtype: torch.dtype) -> nn.Module:
    """From a file of its own, or of a whole model, whose other components are left alone."""
    tensors, about = read_headers([path])
    scales = find_scales(where, tensors, about)
    names = [name for name in drop_needless(tensors) if name not in scales.all_names]
    whole = [name for name in names if name.startswith(("first_stage_model.", "vae."))]
    shapes = {name: tensors[name]["shape"] for name in whole or names}
    return load_tensors(Stored(where, [path], scales, model), NAME, module, shapes, dtype)
