"""Checks what `model.repo` names before anything is loaded: no torch, no safetensors, no network.

`inspect_checkpoint` finds in milliseconds what would otherwise fail minutes later: a path that does not exist, weights
in pickle files (which run code when opened, and are refused), files cut off by an interrupted download.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import ConfigError, make_printable
from ...inputs.files import HUB_ID, InputError, resolve_path
from ...inputs.gguf_header import check_gguf_header
from .folder_gate import check_component, check_root, list_components, name_in_folder, read_config
from .safetensors_file import find_damage, list_weight_files
from .scales import Scales, inspect_scales, read_headers, refuse_other_numbers
from .shards import find_index, read_shards, refuse_unlisted

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
OTHER_SUFFIXES = (".msgpack", ".h5", ".onnx", ".onnx_data", ".pb", ".ot", ".tflite", ".mlmodel", ".gguf")
"""Weights of other frameworks, and those that are read from a file of their own alone."""
SINGLE_FILE_SUFFIXES = (".safetensors", ".gguf")
ALLOWED = (
    "allowed: a hub id 'owner/name', a local diffusers folder, a .safetensors or .gguf file, or pkg://package/folder"
)
CONVERT_PICKLES = (
    "weights in pickle files are refused, because opening one can run any code; convert them on a machine where you "
    "trust them: load with diffusers and `save_pretrained(..., safe_serialization=True)`, or use a repository that has "
    "safetensors"
)
VARIANT = re.compile(r"\.([a-z]+\d+)(?:-\d+-of-\d+)?\.safetensors$")
"""`fp16` in `model.fp16.safetensors`, diffusers' `variant`."""


def find_local_path(repo: str) -> Path | None:
    """The local path that `repo` names, whether or not it exists; None for a hub id."""
    path = resolve_path(repo)
    looks_local = path.suffix.lower() in (*PICKLE_SUFFIXES, *SINGLE_FILE_SUFFIXES)
    if repo.startswith("pkg://") or path.exists() or looks_local or not HUB_ID.fullmatch(repo):
        return path
    return None


def is_single_file(path: Path | None) -> bool:
    """True for a path of a single file of weights."""
    return path is not None and path.suffix.lower() in SINGLE_FILE_SUFFIXES


def inspect_checkpoint(
    repo: str,
    revision: str | None = None,
    key: str = "model.repo",
    *,
    without: Sequence[str] = (),
    weights: str | None = None,
) -> None:
    """Accepts any hub id, and a local model whose files are complete and safe to load.

    Args:
        repo: what the user named.
        revision: `model.revision`; only hub ids have one.
        key: the config key that names `repo`, for messages.
        without: components of a folder that will not be loaded.
        weights: `model.weights`, the variant of weight files to load.

    Raises:
        ConfigError: nothing is there, only pickles are there, a safetensors file is damaged, or a revision is given for
            a local path.
    """
    path = find_local_path(repo)
    if path is None:
        return
    if revision is not None:
        raise ConfigError(
            f"model.revision={revision}: only a hub id has revisions, but {key}={repo} is a local path; "
            "remove model.revision"
        )
    where = f"{key}={repo}"
    if not path.exists():
        raise ConfigError(f"{where}: no such file or folder ({ALLOWED})")
    if path.is_dir():
        _inspect_folder(where, path, without, weights)
    elif not path.is_file():
        raise ConfigError(f"{where}: not a regular file or a folder ({ALLOWED})")
    elif path.suffix.lower() in PICKLE_SUFFIXES:
        raise ConfigError(f"{where}: {CONVERT_PICKLES}")
    elif path.suffix.lower() == ".gguf":
        _refuse_no_gguf(where, path)
    elif path.suffix.lower() != ".safetensors":
        raise ConfigError(f"{where}: not a .safetensors file ({ALLOWED})")
    else:
        _refuse_damaged(where, path)
        inspect_scales(where, [path])


def _inspect_folder(where: str, folder: Path, without: Sequence[str], weights: str | None) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        if _has_only_pickles(folder):
            raise ConfigError(f"{where}: {CONVERT_PICKLES}")
        raise ConfigError(f"{where}: not a diffusers folder, it has no model_index.json ({ALLOWED})")
    check_root(where, folder)
    for name in sorted(list_components(where, folder).keys() - set(without)):
        if not (folder / name).is_dir():
            raise ConfigError(f"{where}: component '{name}' is named in model_index.json but has no folder")
        _inspect_component(where, folder / name, weights)


def _inspect_component(where: str, component: Path, weights: str | None) -> None:
    check_component(where, component)
    if _has_only_pickles(component):
        raise ConfigError(f"{where}: '{component.name}' holds only pickles; {CONVERT_PICKLES}")
    if others := _list_other_formats(component):
        raise ConfigError(
            f"{where}: '{component.name}' has weights in {', '.join(others)} and none in safetensors, which alone are "
            "loaded; load it with the library that reads them, and save it in safetensors"
        )
    _refuse_variants_only(where, component, weights)
    if index := find_index(where, component, weights):
        listed = set(read_shards(where, index).values())
        if not listed:
            raise ConfigError(f"{where}: {component.name}/{index.name} lists no tensors; download it again")
        if missing := sorted(name for name in listed if not (component / name).is_file()):
            raise ConfigError(f"{where}: '{component.name}' lacks {', '.join(missing)}; download it again")
    for file in sorted(component.glob("*.safetensors")):
        _refuse_damaged(where, file)
    inspect_component_weights(where, component, weights)


def inspect_component_weights(where: str, component: Path, weights: str | None) -> Scales | None:
    """Refuses undamaged weights that an index does not list, or that are stored in a way that is not read.

    Returns None where the component has no weights, or its configuration says how they are stored.
    """
    refuse_unlisted(where, component, weights)
    files, config = list_weight_files(component, weights), component / "config.json"
    if not files:
        return None
    if config.is_file() and read_config(where, config).get("quantization_config"):
        refuse_other_numbers(f"{where}: '{component.name}'", read_headers(files)[0], quantized=True)
        return None
    return inspect_scales(f"{where}: '{component.name}'", files)


def explain_scales(repo: str, dtype: str, without: Sequence[str] = (), weights: str | None = None) -> list[str]:
    """A sentence for the file, or each component, of an inspected local model whose weights are stored with scales.

    dtype: what the weights become. The other arguments are those of `inspect_checkpoint`.
    """
    path, where = find_local_path(repo), f"model.repo={repo}"
    found: dict[str, Scales | None] = {}
    if path is not None and path.suffix.lower() == ".safetensors":
        found[path.name] = inspect_scales(where, [path])
    elif path is not None and (path / "model_index.json").is_file():
        names = sorted(list_components(where, path).keys() - set(without))
        found = {name: inspect_component_weights(where, path / name, weights) for name in names}
    return [said for name, scales in found.items() if scales is not None and (said := _describe(name, scales, dtype))]


def _describe(name: str, scales: Scales, dtype: str) -> str:
    """A sentence on the scales of one file or component; empty where there is nothing to say."""
    if not scales.weights:
        has = bool(scales.plain and scales.unused)
        return f"{name} is marked as scaled and has no scales: its {scales.plain} weights in fp8 are cast plainly" * has
    unused = f"; its {scales.inputs} scales of inputs are not used, because layers compute in {dtype}"
    return (
        f"{name} holds {len(scales.weights)} weights in fp8 with scales, which are applied as it is loaded"
        + unused * bool(scales.inputs)
        + "; quant=fp8_wo keeps weights small"
    )


def _refuse_variants_only(where: str, component: Path, weights: str | None) -> None:
    """Raises if a folder holds only variants such as `model.fp16.safetensors`, and not the one that is asked for."""
    files = [file.name for file in component.glob("*.safetensors")]
    matches = [VARIANT.search(name) for name in files]
    variants = {match.group(1) for match in matches if match}
    if files and all(matches) and weights not in variants:
        raise ConfigError(
            f"{where}: '{component.name}' holds only {', '.join(sorted(files))}; use model.weights={min(variants)}"
        )


def _has_only_pickles(folder: Path) -> bool:
    suffixes = {file.suffix.lower() for file in folder.iterdir() if file.is_file()}
    return bool(suffixes & set(PICKLE_SUFFIXES)) and ".safetensors" not in suffixes


def _list_other_formats(folder: Path) -> list[str]:
    """Endings of weights that are not loaded, where there are no others."""
    suffixes = {file.suffix.lower() for file in folder.iterdir() if file.is_file()}
    return [] if ".safetensors" in suffixes else sorted(suffixes & set(OTHER_SUFFIXES))


def _refuse_no_gguf(where: str, file: Path) -> None:
    """Raises if a file does not begin as GGUF files do, or claims more than any holds."""
    try:
        check_gguf_header(file)
    except (InputError, OSError) as error:
        raise ConfigError(make_printable(f"{where}: {error}; download it again")) from None


def _refuse_damaged(where: str, file: Path) -> None:
    try:
        damage = find_damage(file)
    except OSError as error:
        damage = str(error)
    if damage:
        raise ConfigError(f"{where}: {name_in_folder(file)} is damaged: {damage}; download or copy it again")
