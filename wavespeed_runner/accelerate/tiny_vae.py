"""Decoding with a tiny autoencoder, https://github.com/madebyollin/taesd: a small distilled decoder in the VAE's place.

An image is decoded in a fraction of the time and memory, and looks like a preview. A tiny autoencoder belongs to one
space of latents: taesd to Stable Diffusion 1 and 2, taesdxl to SDXL and PixArt-Sigma, taesd3 to SD 3, taef1 to FLUX.1
and the models that share its VAE.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, RunError
from ..models.weights.checkpoint import CONVERT_PICKLES, find_local_path, inspect_component_weights
from ..models.weights.folder_gate import check_component, read_config
from ..models.weights.folder_models import refuse_unplaced_keys
from ..models.weights.hub import (
    count_weight_bytes,
    explain_loading_errors,
    fetch_configurations,
    must_use_cache,
    quiet_loading,
    refuse_missing_weights,
)
from ..models.weights.identity import find_downloaded_commit
from ..models.weights.safetensors_file import find_damage
from ..models.weights.trial import Candidate, refuse_unbuildable

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderTiny, DiffusionPipeline

KEY = "accelerate.tiny_vae"

PUBLISHED = {
    "chroma": "madebyollin/taef1",
    "flux": "madebyollin/taef1",
    "flux_fill": "madebyollin/taef1",
    "flux_kontext": "madebyollin/taef1",
    "hidream": "madebyollin/taef1",
    "lumina2": "madebyollin/taef1",
    "pixart_sigma": "madebyollin/taesdxl",
    "sd": "madebyollin/taesd",
    "sd3": "madebyollin/taesd3",
    "sdxl": "madebyollin/taesdxl",
    "z_image": "madebyollin/taef1",
}
"""Family -> the hub id of a tiny autoencoder of its latents. The other families' VAEs have latents of other shapes."""

CHANNELS = {"madebyollin/taesd": 4, "madebyollin/taesdxl": 4, "madebyollin/taesd3": 16, "madebyollin/taef1": 16}
"""Hub id -> channels of its latents. Equal numbers do not make two spaces the same: taesd cannot decode SDXL's."""


def inspect_tiny_vae(repo: str) -> dict[str, Any] | None:
    """The configuration of a local folder, checked; None for a hub id. Loads nothing.

    Raises:
        ConfigError: the folder holds no `AutoencoderTiny`, asks for code, or its weights are missing or damaged.
    """
    folder = find_local_path(repo)
    if folder is None:
        return None
    where = f"{KEY}={repo}"
    config = _inspect_config(where, folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ConfigError(f"{where}: it has no .safetensors file; {CONVERT_PICKLES}")
    for file in files:
        if damage := find_damage(file):
            raise ConfigError(f"{where}: {file.name} is damaged: {damage}; download or copy it again")
    inspect_component_weights(where, folder, None)
    return config


def _inspect_config(where: str, folder: Path) -> dict[str, Any]:
    """The configuration in a folder, which may lack the weights."""
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{where}: it has no config.json; give a hub id, or a folder saved by diffusers")
    check_component(where, folder)
    config = read_config(where, folder / "config.json")
    if config.get("_class_name") != "AutoencoderTiny":
        raise ConfigError(f"{where}: it holds {config.get('_class_name')}, and an AutoencoderTiny is needed")
    return config


def put_tiny_vae(pipe: DiffusionPipeline, repo: str) -> None:
    """Puts the tiny autoencoder in the place of the pipeline's VAE, in the VAE's dtype.

    Raises:
        RunError: it cannot be loaded, or decodes latents of another shape.
    """
    tiny = _load(repo, pipe.vae.dtype)
    for name, read in (("latent channels", _count_channels), ("pixels a latent pixel", _find_factor)):
        ours, theirs = read(tiny), read(pipe.vae)
        if ours != theirs:
            raise RunError(
                f"{KEY}={repo}: it has {ours} {name}, and this model's VAE has {theirs}; "
                f"use one that was made for this model"
            )
    pipe.vae = tiny.to(pipe.vae.device)


def _count_channels(vae: Any) -> int:
    return int(vae.config.latent_channels)


def _find_factor(vae: Any) -> int:
    """How many pixels wide a pixel of the latents is."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def _refuse_unbuildable(repo: str, folder: Path | None, commit: str | None) -> None:
    """Builds the tiny autoencoder on trial. folder: None for a hub id, whose configuration is checked first."""
    where, held = f"{KEY}={repo}", None
    if folder is None:
        folder = fetch_configurations(repo, commit)
        _inspect_config(where, folder)
        held = count_weight_bytes(repo, commit, folder)
    tiny = Candidate(
        name="tiny_vae", library="diffusers", class_name="AutoencoderTiny", folder=folder, weight_bytes=held
    )
    refuse_unbuildable(where, [tiny])


def _load(repo: str, dtype: torch.dtype) -> AutoencoderTiny:
    from diffusers import AutoencoderTiny

    inspect_tiny_vae(repo)
    folder = find_local_path(repo)
    with explain_loading_errors(repo, key=KEY), quiet_loading():
        options: dict[str, Any] = {"local_files_only": must_use_cache(repo, folder)}
        commit = None if folder else find_downloaded_commit(repo)
        if commit:
            options["revision"] = commit
        _refuse_unbuildable(repo, folder, commit)
        source = str(folder or repo)
        tiny, info = AutoencoderTiny.from_pretrained(
            source, torch_dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
        inspect_component_weights(f"{KEY}={repo}", folder or fetch_configurations(repo, commit), None)
    refuse_missing_weights({"tiny_vae": sorted(info["missing_keys"])}, f"{KEY}={repo}")
    refuse_unplaced_keys(f"{KEY}={repo}", "tiny_vae", tiny, info["unexpected_keys"])
    tiny.eval().requires_grad_(False)
    return tiny
