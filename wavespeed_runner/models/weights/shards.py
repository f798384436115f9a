"""Which of a component's files are loaded, and whether the index of several files (shards) says what is in them.

diffusers and transformers load what an index lists, from where it says; all else in the shards they leave out silently,
and so they do with files of other names.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from ...errors import ConfigError, make_printable
from .folder_gate import list_components, read_config
from .safetensors_file import list_weight_files, read_tensor_names

WHOLE = re.compile(r"(diffusion_pytorch_)?model(\.[a-z]+\d+)?\.safetensors")
"""The name that a loader looks for; with its variant."""
WAY_OUT = "download it again, or save it anew with diffusers' or transformers' save_pretrained"


def refuse_unlisted(where: str, component: Path) -> None:
    """Refuses a component of which an index and the shards beside it, all undamaged, say other things.

    Raises:
        ConfigError: names a tensor that a shard holds and the index does not list, that stands in two shards, or that
            is not where the index says.
    """
    for index in sorted(component.glob("*.safetensors.index*.json")):
        listed = read_shards(where, index)
        for name in sorted(set(listed.values())):
            if not (component / name).is_file():
                continue
            held = read_tensor_names(component / name)
            flaw = _find_flaw(index.name, listed, name, held)
            if flaw:
                raise ConfigError(make_printable(f"{where}: '{component.name}': {flaw}; {WAY_OUT}"))


def _find_flaw(index: str, listed: dict[str, str], file: str, held: list[str]) -> str:
    """How one shard and the index differ; empty if they do not. listed: tensor -> file."""
    unlisted = [name for name in held if name not in listed]
    if unlisted:
        return (
            f"{len(unlisted)} of the tensors in {file} are not listed in {index}, the first is {unlisted[0]}; they "
            "would be left out"
        )
    if twice := [name for name in held if listed[name] != file]:
        return f"{twice[0]} stands in {file}, and {index} lists it in {listed[twice[0]]}; one of them would be left out"
    if lacking := sorted({name for name, place in listed.items() if place == file} - set(held)):
        return f"{file} lacks {lacking[0]}, which {index} lists in it"
    return ""


def read_shards(where: str, index: Path) -> dict[str, str]:
    """Tensor -> the file that an index lists it in, which must be in the same folder.

    Raises:
        ConfigError: it is no index.
    """
    weight_map = read_config(where, index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(s, str) for s in weight_map.values()):
        raise ConfigError(f"{where}: {index.name} has no weight_map")
    return weight_map


def explain_spare_files(where: str, folder: Path, without: Collection[str], weights: str | None) -> list[str]:
    """A sentence for each component of an inspected diffusers folder with weight files that are not loaded.

    without: components that are not loaded. weights: `model.weights`.
    """
    said = []
    for name in sorted(list_components(where, folder).keys() - set(without)):
        if spare := _list_spare(where, folder / name, weights):
            more = f" and {len(spare) - 1} more" if len(spare) > 1 else ""
            said.append(f"{name}/{spare[0]}{more} is not loaded: it is none of the files of the model itself")
    return said


def _list_spare(where: str, component: Path, weights: str | None) -> list[str]:
    """The files of the variant that a loader passes over: diffusers takes an index first, transformers one file."""
    files = {file.name for file in list_weight_files(component, weights)}
    if len(files) < 2:
        return []
    config = component / "config.json"
    is_diffusers = config.is_file() and "_class_name" in read_config(where, config)
    whole = {name for name in files if WHOLE.fullmatch(name)}
    indices = component.glob("*.safetensors.index*.json")
    shards = files & {name for index in indices for name in read_shards(where, index).values()}
    used = shards if shards and (is_diffusers or not whole) else whole
    return sorted(files - used) if used else []
