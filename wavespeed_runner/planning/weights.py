"""What the plan says of a model's weights: that they are there and can be read, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path

from ..config.schema import Config, Init
from ..errors import ConfigError, Unfit
from ..inputs.gguf_header import count_spare_bytes
from ..models.family import Family
from ..models.weights.checkpoint import explain_scales, find_local_path, inspect_checkpoint
from ..models.weights.class_notes import explain_other_classes
from ..models.weights.external_components import inspect_external_components
from ..models.weights.file_flags import find_changes
from ..models.weights.folder_gate import list_components, read_config
from ..models.weights.own_folder import refuse_other_family
from ..models.weights.own_vae import inspect_vae
from ..models.weights.pretrained import find_component_source, list_unloaded_components
from ..models.weights.quantized import refuse_unloadable
from ..models.weights.scheduler_gate import explain_class
from ..models.weights.shards import explain_spare_files
from ..models.weights.text_heads import explain_heads
from ..registry import find_implementation
from ..samplers import DefaultSampler
from .automatic import Change

NEEDED = ("vae", "scheduler")
"""Components that no pipeline of a family does without."""


def inspect_weights(config: Config) -> list[Change]:
    """Checks that the model's weights are there and can be read, without loading them; says what becomes of them.

    Raises:
        ConfigError: they are not there, are damaged, or are stored in a way that is not read.
    """
    if config.model.init is not Init.pretrained:
        return []
    family = find_implementation("model", config.model)
    inspect_checkpoint(
        config.model.repo, config.model.revision, without=list_unloaded_components(family), weights=config.model.weights
    )
    if (folder := find_local_path(config.model.repo)) and (folder / "model_index.json").is_file():
        refuse_other_family(config.model.repo, folder, config.model.name)
        _refuse_missing_parts(config, folder, family)
        _refuse_scheduler(config, folder, family)
        _refuse_tiling(config, folder)
    refuse_unloadable(config.model, family)
    inspect_external_components(family, config.model)
    if config.model.vae is not None:
        inspect_vae(config.model.vae, config.model.weights)
    if completing := find_component_source(family, config.model):
        inspect_checkpoint(completing, key="model.components", without=list_unloaded_components(family))
    repos, without = [repo for repo in (config.model.repo, completing) if repo], list_unloaded_components(family)
    dtype, weights = config.model.dtype.value, config.model.weights
    scales = [why for repo in repos for why in explain_scales(repo, dtype, without, weights)]
    stored = [Change(key="model.dtype", value=dtype, why=why) for why in scales]
    spare = [
        Change(key="model.repo", value=config.model.repo, why=why) for why in _list_what_is_left_out(config, without)
    ]
    return [*stored, *spare, *_list_flags(config)]


def _refuse_missing_parts(config: Config, folder: Path, family: Family) -> None:
    """Refuses a folder that leaves out, as [null, null], what no pipeline of a family can do without.

    Text encoders may be left out of some, and of `generic` nothing is known.
    """
    if family.single_call:
        return
    where = f"model.repo={config.model.repo}"
    index, named = read_config(where, folder / "model_index.json"), list_components(where, folder)
    for name in NEEDED:
        if name in index and name not in named and not (name == "vae" and config.model.vae is not None):
            way_out = "; or give one as model.vae" if name == "vae" else ""
            raise ConfigError(
                f"{where}: '{name}' in model_index.json is {json.dumps(index[name])[:80]}, and the pipeline cannot do "
                f"without; name its [library, class]{way_out}"
            )


def _refuse_scheduler(config: Config, folder: Path, family: Family) -> None:
    """Refuses the scheduler of a model's folder if the family's pipeline cannot run with it, or not for so many steps.

    Another one is built of its numbers where `sampler` names it.
    """
    where = f"model.repo={config.model.repo}"
    class_name = list_components(where, folder).get("scheduler", ("", ""))[1]
    file = folder / "scheduler" / "scheduler_config.json"
    if family.single_call or not file.is_file():
        return
    used = class_name if isinstance(config.sampler, DefaultSampler) else ""
    if reason := explain_class(used, family.schedule, read_config(where, file), config.steps or config.model.steps):
        raise ConfigError(f"{where}: {reason}")


def _refuse_tiling(config: Config, folder: Path) -> None:
    """Refuses tiles of an autoencoder in a model's folder whose class decodes none (`accelerate/memory.py`)."""
    class_name = list_components(f"model.repo={config.model.repo}", folder).get("vae", ("", ""))[1]
    if getattr(config.memory, "vae_tiling", False) and config.model.vae is None and class_name == "AutoencoderTiny":
        raise Unfit(
            f"memory.vae_tiling=true: the autoencoder of model.repo={config.model.repo} is an AutoencoderTiny, which "
            "cannot decode in tiles; memory.vae_tiling=false: it needs little memory"
        )


def _list_what_is_left_out(config: Config, without: list[str]) -> list[str]:
    """Sentences on components of a local folder: what lies beside those that are loaded, or is ignored."""
    repo, folder = config.model.repo, find_local_path(config.model.repo)
    if folder is not None and folder.suffix.lower() == ".gguf" and (spare := count_spare_bytes(folder)):
        return [f"{spare} bytes of {folder.name} belong to none of its tensors, and are not read"]
    if folder is None or not folder.is_dir():
        return []
    where, weights = f"model.repo={repo}", config.model.weights
    return [
        *explain_spare_files(where, folder, without, weights),
        *explain_heads(where, folder, without, weights),
        *explain_other_classes(where, folder, without),
    ]


def _list_flags(config: Config) -> list[Change]:
    """What a single-file checkpoint sets of the scheduler."""
    changes, source = find_changes(find_implementation("model", config.model), config.model)
    why = f"{config.model.repo} has {source}"
    return [Change(key=f"scheduler.{key}", value=value, why=why) for key, value in changes.items()]
