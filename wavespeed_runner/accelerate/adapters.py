"""Adapters: LoRA and textual inversion, checked before the run and applied to the loaded pipeline.

They change what the model generates, so the reference has them too. diffusers and PEFT load, weight and fuse them, see
https://huggingface.co/docs/diffusers/using-diffusers/loading_adapters. Added here: it is an error if a file cannot be
loaded, or if any weight in it matches nothing in the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.schema import AdaptersConfig, ModelConfig
from ..errors import ConfigError, make_printable
from ..models.weights.checkpoint import CONVERT_PICKLES, PICKLE_SUFFIXES, find_local_path
from ..models.weights.identity import identify_weights
from ..models.weights.safetensors_file import find_damage, read_tensor_shapes
from ..process.logging_setup import log_warnings
from ..registry import find_implementation
from . import lora, textual_inversion
from .adapter_file import find_hostile
from .adapter_flaws import find_flaw
from .adapter_layers import list_modules
from .adapter_names import find_foreign
from .adapter_options import Lora, TextualInversion, as_list, values_per_path

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

USUAL = "pytorch_lora_weights.safetensors"
"""What diffusers calls the file of a LoRA that it saves."""
ALLOWED = "allowed: a .safetensors file, pkg://package/file, or a hub id 'owner/name'"


def check_adapters(
    adapters: AdaptersConfig, texts: Iterable[str] | None = None, model: ModelConfig | None = None
) -> None:
    """Checks adapter files before anything is loaded: missing, pickled or damaged files and unused tokens are refused.

    Args:
        adapters: the options.
        model: of the run; files that are for another kind, by their headers, are refused. None: do not check.
        texts: prompts and negative prompts of the run, one of which must contain each token; None: do not check.

    Raises:
        ConfigError: names the path.
    """
    if adapters.name == "none":
        return
    weights = values_per_path(adapters, "weight") if isinstance(adapters, Lora) else [1.0] * len(as_list(adapters.path))
    for path, file_name, weight in zip(as_list(adapters.path), values_per_path(adapters, "file"), weights, strict=True):
        file = _check_path(path, file_name)
        if file is not None and isinstance(adapters, Lora):
            _check_lora(f"adapters.path={path}", file, float(weight), model)
    if isinstance(adapters, TextualInversion):
        textual_inversion.check_tokens(adapters, texts)


def _check_path(path: Any, file_name: Any) -> Path | None:
    """Checks one path and the file name that goes with it. Returns the local file; None for a hub id."""
    where = f"adapters.path={path}"
    if not isinstance(path, str):
        raise ConfigError(f"{where}: {ALLOWED}")
    file = find_local_path(path)
    if file_name is not None and not (isinstance(file_name, str) and file_name.endswith(".safetensors")):
        raise ConfigError(f"adapters.file={file_name}: a .safetensors file is needed; {CONVERT_PICKLES}")
    if file is None:
        return None
    if file.is_dir():
        _refuse_folder(where, path, file, file_name)
    if file_name is not None:
        raise ConfigError(f"adapters.file={file_name}: {where} is a file itself, so it could not take effect")
    if file.suffix.lower() in PICKLE_SUFFIXES:
        raise ConfigError(f"{where}: {CONVERT_PICKLES}")
    if not file.is_file() or file.suffix.lower() != ".safetensors":
        raise ConfigError(f"{where}: no such file; {ALLOWED}")
    if flaw := find_damage(file):
        raise ConfigError(f"{where}: damaged: {flaw}; download or copy it again")
    return file


def _check_lora(where: str, file: Path, weight: float, model: ModelConfig | None) -> None:
    """Checks what is in an undamaged LoRA file, and whether it can be applied to the model at a weight."""
    if flaw := find_hostile(file):
        raise ConfigError(f"{where}: not a file that can be loaded: {flaw}; use another one")
    shapes = read_tensor_shapes(file)
    if flaw := find_flaw(shapes, weight):
        raise ConfigError(f"{where}: {flaw}")
    if model and (flaw := find_foreign(shapes, model, find_implementation("model", model))):
        raise ConfigError(f"{where}: {flaw}")


def _refuse_folder(where: str, path: str, folder: Path, wanted: str | None) -> None:
    """Refuses a folder by the files that it holds: which of them is meant is not guessed."""
    names = sorted(file.name for file in folder.iterdir() if file.suffix.lower() == ".safetensors")
    if not names:
        raise ConfigError(f"{where}: it is a folder without .safetensors files; {ALLOWED}")
    usual = next((name for name in (wanted, USUAL, "adapter_model.safetensors") if name in names), names[0])
    one = f"{path.rstrip('/')}/{usual}"
    listed = f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
    raise ConfigError(
        make_printable(f"{where}: it is a folder, which holds {listed}; give one file: adapters.path={one}")
    )


def identify_adapters(adapters: AdaptersConfig) -> list[str]:
    """Identifies the adapters by their content, wherever their files are."""
    paths = as_list(adapters.path) if adapters.name != "none" else []
    return [identify_weights(path, None) for path in paths]


def apply_adapters(pipe: DiffusionPipeline, adapters: AdaptersConfig, stand_in: bool = False) -> DiffusionPipeline:
    """Loads the adapters into the pipeline's modules, and leaves the global random state as it is.

    Layers that PEFT makes are in training mode, in which dropout is active: all modules are put in the other one.

    Args:
        pipe: the pipeline.
        adapters: the options.
        stand_in: random updates take the place of LoRAs in the hub, for a tiny model.

    Raises:
        RunError: a file is not for this model.
    """
    import torch

    with torch.random.fork_rng(devices=[]), log_warnings():  # PEFT's, as of metadata that names other layers
        if isinstance(adapters, Lora):
            lora.load_lora(pipe, adapters, stand_in)
        elif isinstance(adapters, TextualInversion):
            textual_inversion.load_tokens(pipe, adapters)
    for module in list_modules(pipe).values():
        module.eval()
    return pipe


def collect_evidence(pipe: DiffusionPipeline, adapters: AdaptersConfig) -> dict[str, Any] | None:
    """Evidence for the record's `engaged.adapters`, read from the pipeline's modules. None without adapters."""
    if isinstance(adapters, Lora):
        return lora.collect_evidence(pipe, adapters)
    if isinstance(adapters, TextualInversion):
        return textual_inversion.collect_evidence(pipe, adapters)
    return None
