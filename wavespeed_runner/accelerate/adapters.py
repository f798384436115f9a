"""Adapters: what is learned on top of a model and changes what it draws, so the reference has it too.

Loading, weighing and fusing are diffusers' and PEFT's own; see
https://huggingface.co/docs/diffusers/using-diffusers/loading_adapters. Added here: files that cannot be loaded, or of
which a part finds no place in the model, are errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..config.schema import AdaptersConfig
from ..errors import ConfigError
from ..models.weights import checkpoint
from . import lora, textual_inversion
from .adapter_options import Lora, TextualInversion, as_list, values_per_path

ALLOWED = "allowed: a .safetensors file, pkg://package/file, or a hub id 'owner/name'"


def check_adapters(adapters: AdaptersConfig, texts: Iterable[str] | None = None) -> None:
    """Refuses, before anything is loaded, a file that is not there, is a pickle or is damaged, and a token that is in
    none of the texts.

    texts: prompts of the run, negative ones too; None where they are not to be looked at.

    Raises:
        ConfigError: names the path.
    """
    if adapters.name == "none":
        return
    for path, name in zip(as_list(adapters.path), values_per_path(adapters, "file"), strict=True):
        where = f"adapters.path={path}"
        if not isinstance(path, str):
            raise ConfigError(f"{where}: {ALLOWED}")
        file = checkpoint.local(path)
        if name is not None and not (isinstance(name, str) and name.endswith(".safetensors")):
            raise ConfigError(f"adapters.file={name}: a .safetensors file is needed; {checkpoint.CONVERT}")
        if file is None:
            continue
        if name is not None:
            raise ConfigError(f"adapters.file={name}: {where} is a file itself, so it could not take effect")
        if file.suffix.lower() in checkpoint.PICKLES:
            raise ConfigError(f"{where}: {checkpoint.CONVERT}")
        if not file.is_file() or file.suffix.lower() != ".safetensors":
            raise ConfigError(f"{where}: no such file; {ALLOWED}")
        if wrong := checkpoint.flaw(file):
            raise ConfigError(f"{where}: damaged: {wrong}; download or copy it again")
    if isinstance(adapters, TextualInversion):
        textual_inversion.check_tokens(adapters, texts)


def identify_adapters(adapters: AdaptersConfig) -> list[str]:
    """Says which adapters these are, wherever they lie."""
    paths = as_list(adapters.path) if adapters.name != "none" else []
    return [checkpoint.identity(path, None) for path in paths]


def apply_adapters(pipe: Any, adapters: AdaptersConfig) -> Any:
    """The pipeline with the adapters in its modules. Leaves the global random state alone.

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


def collect_evidence(pipe: Any, adapters: AdaptersConfig) -> dict[str, Any] | None:
    """The record's `engaged.adapters`: what is seen in the pipeline. None for nothing."""
    if isinstance(adapters, Lora):
        return lora.collect_evidence(pipe, adapters)
    if isinstance(adapters, TextualInversion):
        return textual_inversion.collect_evidence(pipe, adapters)
    return None
