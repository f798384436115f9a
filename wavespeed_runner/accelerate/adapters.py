"""Adapters: LoRA and textual inversion, checked before the run and applied to the loaded pipeline.

They change what the model generates, so the reference has them too. diffusers and PEFT load, weight and fuse them, see
https://huggingface.co/docs/diffusers/using-diffusers/loading_adapters. Added here: it is an error if a file cannot be
loaded, or if any weight in it matches nothing in the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..config.schema import AdaptersConfig
from ..errors import ConfigError
from ..models.weights.checkpoint import CONVERT_PICKLES, PICKLE_SUFFIXES, find_local_path
from ..models.weights.identity import identify_weights
from ..models.weights.safetensors_file import find_damage
from . import lora, textual_inversion
from .adapter_file import find_hostile
from .adapter_options import Lora, TextualInversion, as_list, values_per_path

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

ALLOWED = "allowed: a .safetensors file, pkg://package/file, or a hub id 'owner/name'"


def check_adapters(adapters: AdaptersConfig, texts: Iterable[str] | None = None) -> None:
    """Checks adapter files before anything is loaded: missing, pickled or damaged files and unused tokens are refused.

    Args:
        adapters: the options.
        texts: prompts and negative prompts of the run, one of which must contain each token; None: do not check.

    Raises:
        ConfigError: names the path.
    """
    if adapters.name == "none":
        return
    for path, file_name in zip(as_list(adapters.path), values_per_path(adapters, "file"), strict=True):
        _check_file(adapters, path, file_name)
    if isinstance(adapters, TextualInversion):
        textual_inversion.check_tokens(adapters, texts)


def _check_file(adapters: AdaptersConfig, path: Any, file_name: Any) -> None:
    """Checks one path and the file name that goes with it."""
    where = f"adapters.path={path}"
    if not isinstance(path, str):
        raise ConfigError(f"{where}: {ALLOWED}")
    file = find_local_path(path)
    if file_name is not None and not (isinstance(file_name, str) and file_name.endswith(".safetensors")):
        raise ConfigError(f"adapters.file={file_name}: a .safetensors file is needed; {CONVERT_PICKLES}")
    if file is None:
        return
    if file_name is not None:
        raise ConfigError(f"adapters.file={file_name}: {where} is a file itself, so it could not take effect")
    if file.suffix.lower() in PICKLE_SUFFIXES:
        raise ConfigError(f"{where}: {CONVERT_PICKLES}")
    if not file.is_file() or file.suffix.lower() != ".safetensors":
        raise ConfigError(f"{where}: no such file; {ALLOWED}")
    if flaw := find_damage(file):
        raise ConfigError(f"{where}: damaged: {flaw}; download or copy it again")
    if isinstance(adapters, Lora) and (flaw := find_hostile(file)):
        raise ConfigError(f"{where}: not a file that can be loaded: {flaw}; use another one")


def identify_adapters(adapters: AdaptersConfig) -> list[str]:
    """Identifies the adapters by their content, wherever their files are."""
    paths = as_list(adapters.path) if adapters.name != "none" else []
    return [identify_weights(path, None) for path in paths]


def apply_adapters(pipe: DiffusionPipeline, adapters: AdaptersConfig) -> DiffusionPipeline:
    """Loads the adapters into the pipeline's modules, and leaves the global random state as it is.

    Raises:
        RunError: a file is not for this model.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        if isinstance(adapters, Lora):
            lora.load_lora(pipe, adapters)
        elif isinstance(adapters, TextualInversion):
            textual_inversion.load_tokens(pipe, adapters)
    return pipe


def collect_evidence(pipe: DiffusionPipeline, adapters: AdaptersConfig) -> dict[str, Any] | None:
    """Evidence for the record's `engaged.adapters`, read from the pipeline's modules. None without adapters."""
    if isinstance(adapters, Lora):
        return lora.collect_evidence(pipe, adapters)
    if isinstance(adapters, TextualInversion):
        return textual_inversion.collect_evidence(pipe, adapters)
    return None
