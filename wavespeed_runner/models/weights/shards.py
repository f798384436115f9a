"""Which of a component's files are loaded, and whether the index of several files (shards) says what is in them.

diffusers and transformers load what an index lists, from where it says; all else in the shards they leave out silently,
and so they do with files of other names.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from ...errors import ConfigError, make_printable
from .folder_gate import list_components, read_config
from .safetensors_file import list_variant_files, list_weight_files, read_tensor_names

WHOLE = re.compile(r"(diffusion_pytorch_)?model(\.[a-z]+\d+)?\.safetensors")
"""The name that a loader looks for; with its variant."""
DIFFUSERS = "diffusion_pytorch_model"
WAY_OUT = "download it again, or save it anew with diffusers' or transformers' save_pretrained"


def refuse_unlisted(where: str, component: Path, weights: str | None) -> None:
    """Refuses a component of which the index that is loaded and the shards beside it, all undamaged, say other things.

    What no shard holds is left to the report of transformers, where a weight that is tied to another may be listed and
    not stored. diffusers takes all that is listed for loaded.

    Args:
        where: `key=value` of the component, for messages.
        component: its folder.
        weights: `model.weights`, the variant to load.

    Raises:
        ConfigError: names a tensor that a shard holds and the index does not list, or lists in another shard, or that
            no shard holds.
    """
    index = find_index(where, component, weights)
    if index is None:
        return
    files = (index, *sorted(component.glob("*.safetensors")))
    states = [file.stat() for file in files]
    version = tuple((s.st_size, s.st_mtime_ns, s.st_ino) for s in states)
    if flaw := _find_flaw(where, files, version):
        raise ConfigError(make_printable(f"{where}: '{component.name}': {flaw}; {WAY_OUT}"))


def find_index(where: str, component: Path, weights: str | None) -> Path | None:
    """The index of shards that a loader reads: of the variant, and of transformers' models where no file is whole."""
    # An index of the variant without its files is an unfinished download.
    given = list_variant_files(component, weights) or (weights and any(component.glob(f"*.index.{weights}.json")))
    variant = f".{weights}" if given else ""
    stem = DIFFUSERS if _is_diffusers(where, component) else "model"
    index = component / f"{stem}.safetensors.index{variant}.json"
    first = stem == "model" and (component / f"{stem}{variant}.safetensors").is_file()
    return index if index.is_file() and not first else None


def _is_diffusers(where: str, component: Path) -> bool:
    config = component / "config.json"
    return config.is_file() and "_class_name" in read_config(where, config)


@lru_cache(maxsize=256)
def _find_flaw(where: str, files: tuple[Path, ...], version: tuple[tuple[int, ...], ...]) -> str:
    """How an index, the first file, and its shards differ; empty if they do not.

    Version changes whenever a file does. It is only a cache key.
    """
    index, *shards = files
    listed = read_shards(where, index)
    named = set(listed.values())
    found = (_compare(index.name, listed, file.name, read_tensor_names(file)) for file in shards if file.name in named)
    return next(filter(None, found), "")


def _compare(index: str, listed: dict[str, str], file: str, held: list[str]) -> str:
    """What one shard holds otherwise than the index says; empty if nothing. listed: tensor -> file."""
    unlisted = [name for name in held if name not in listed]
    if unlisted:
        return (
            f"{len(unlisted)} of the tensors in {file} are not listed in {index}, the first is {unlisted[0]}; they "
            "would be left out"
        )
    if twice := [name for name in held if listed[name] != file]:
        return f"{twice[0]} stands in {file}, and {index} lists it in {listed[twice[0]]}; one of them would be left out"
    lacking = sorted({name for name, place in listed.items() if place == file} - set(held))
    if lacking and index.startswith(DIFFUSERS):
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
    whole = {name for name in files if WHOLE.fullmatch(name)}
    index = find_index(where, component, weights)
    used = files & set(read_shards(where, index).values()) if index else whole
    return sorted(files - used) if used else []
