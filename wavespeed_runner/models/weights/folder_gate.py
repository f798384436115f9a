"""Decides what of a model folder may be loaded, before anything of it is imported: a folder is data, never code.

transformers and diffusers run Python of the folder itself where its configurations ask for that (`auto_map`,
`trust_remote_code`, custom pipelines), and import whatever class a model_index.json names. Here only known kinds of
classes of known libraries pass. https://huggingface.co/docs/transformers/custom_models
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...inputs import limits
from ...inputs.documents import read_json
from ...inputs.files import InputError
from .class_names import ENDINGS, LIBRARIES, LOADABLE, PARTS, PIPELINES, TEXTS
from .config_gate import is_inside, refuse_values
from .folder_files import list_files, refuse_link, refuse_size, scan
from .json_values import list_mappings
from .tokenizer_gate import is_tokenizer, refuse_added_tokens, refuse_tokenizer

CODE_KEYS = ("auto_map", "custom_pipelines", "trust_remote_code")
"""Keys of configurations that lead to code of the folder or of another repository."""


CONFIGURATION = re.compile(r"(\w+_)?config(\..+)?\.json|special_tokens_map\.json|added_tokens\.json")
"""Files that the loaders of diffusers and transformers read as objects."""


def read_config(where: str, file: Path) -> dict[str, Any]:
    """Reads a JSON configuration of a model folder.

    Raises:
        ConfigError: it cannot be read, or is not an object.
    """
    try:
        data = read_json(file, constants=True)
        if not isinstance(data, dict):
            raise InputError("not an object")
    except (InputError, OSError) as error:
        raise ConfigError(f"{where}: {name_in_folder(file)} cannot be read as JSON: {error}") from error
    return data


def name_in_folder(file: Path) -> str:
    """COMPONENT/FILE of a file in a component's folder; the name alone where the folder is none of a pipeline."""
    in_component = (file.parent.parent / "model_index.json").is_file()
    return f"{file.parent.name}/{file.name}" if in_component else file.name


def list_components(where: str, folder: Path) -> dict[str, tuple[str, str]]:
    """Component -> its library and class, as model_index.json names them, without those left out as [null, null].

    Args:
        where: `key=value` of the folder, for messages.
        folder: that holds the model_index.json.

    Raises:
        ConfigError: it cannot be read, names something that may not be loaded, or a component's folder is a link.
    """
    index = read_config(where, folder / "model_index.json")
    pipeline = index.get("_class_name", "")
    if not isinstance(pipeline, str):
        raise ConfigError(f"{where}: model_index.json asks for a pipeline of its own, and no code of a folder is run")
    if pipeline and not PIPELINES.fullmatch(pipeline):
        raise ConfigError(f"{where}: {pipeline[:80]!r} in model_index.json is no name of a pipeline of diffusers")
    components = {}
    for name, value in index.items():
        if not _is_component(where, name, value):
            continue
        if not value:
            raise ConfigError(f"{where}: '{name}' in model_index.json is []; a component is [library, class]")
        if value[0] not in LIBRARIES:
            raise ConfigError(
                f"{where}: component '{name}' asks for code from {value[0]!r}; allowed: {', '.join(LIBRARIES)}"
            )
        if len(value) != 2 or not isinstance(value[1], str) or not LOADABLE.fullmatch(value[1]):
            raise ConfigError(
                f"{where}: component '{name}' asks for {value[0]}.{str(value[-1])[:80]}, which is no class of a model, "
                f"tokenizer, processor or scheduler; allowed: names that end in {', '.join(ENDINGS)} or ForTASK, and "
                "no Auto class; name the class itself in model_index.json"
            )
        if not re.fullmatch(r"\w+", name, re.ASCII):
            raise ConfigError(f"{where}: component {name[:80]!r} in model_index.json: not the name of a folder")
        refuse_link(where, folder / name)
        components[name] = (value[0], value[1])
    if len(components) > limits.MAX_COMPONENTS:
        raise ConfigError(f"{where}: {len(components)} components; at most {limits.MAX_COMPONENTS} are loaded")
    return components


def _is_component(where: str, name: str, value: Any) -> bool:
    """False for an option of the pipeline, a component that is left out, and what diffusers writes for itself."""
    if name.startswith("_") or value is None or (isinstance(value, list) and value and value[0] is None):
        return False
    if isinstance(value, list):
        is_option = value and not PARTS.fullmatch(name) and all(isinstance(number, int | float) for number in value)
        return not is_option
    if PARTS.fullmatch(name) or not (isinstance(value, int | float) or name in TEXTS):
        raise ConfigError(
            f"{where}: '{name}' in model_index.json is {str(value)[:80]!r}; a component is [library, class]"
        )
    return False


def check_component(where: str, folder: Path) -> None:
    """Refuses a component's folder whose files ask for code, lead out of it, or hold numbers nothing can be built of.

    Every file that could be read as JSON is, also those in its folders: a processor has tokenizers there.

    Raises:
        ConfigError: names the file and the key; or a file cannot be read as JSON.
    """
    files = list_files(where, folder)
    for file in files:
        refuse_size(where, file)
    for file in (file for file in files if ".json" in file.name.lower()):
        if file.name.lower() == "adapter_config.json":  # transformers loads the model that it names instead of this one
            raise ConfigError(
                f"{where}: {folder.name}/{file.name} leads to another model, which nobody has checked; merge the "
                "adapter into the model and save that, or give it as adapters.path"
            )
        _check_file(where, file, _find_version(file))


def check_root(where: str, folder: Path) -> None:
    """Checks configurations beside the model_index.json, which stand in for those that a component's folder lacks.

    Raises:
        ConfigError: as `check_component`.
    """
    for file in scan(where, folder):
        if CONFIGURATION.fullmatch(file.name):
            _check_file(where, file, _find_version(file))


def _find_version(file: Path) -> tuple[int, ...]:
    """Changes whenever the file does."""
    try:
        version = file.stat()
    except OSError:  # a link to nowhere
        return ()
    return version.st_size, version.st_mtime_ns, version.st_ctime_ns, version.st_ino


@lru_cache(maxsize=1024)
def _check_file(where: str, file: Path, version: tuple[int, ...]) -> None:
    """Checks one file. The version changes whenever the file does: the jobs of a sweep read it once."""
    data, name = _read_any(where, file), file.name.lower()
    place = f"{where}: {file.parent.name}/{file.name}"
    if re.search(r"\.(safetensors|bin)\.index(\.\w+)?\.json", name):
        _check_shards(where, file, data)
    if name == "vocab.json":  # large, and only holds words
        return
    has_words = "tokenizer" in name and "config" not in name
    if not has_words:
        _refuse_code(place, data)
    if has_words or is_tokenizer(data):
        refuse_tokenizer(place, data)
    if name == "added_tokens.json":
        refuse_added_tokens(place, {"added_tokens": data})
    if name == "tekken.json" and isinstance(data, dict):  # a tokenizer of Mistral's, with a configuration in it
        refuse_values(place, data.get("config"))
    if "config" in name or name in (
        "special_tokens_map.json",
        "chat_template.json",
    ):  # others, such as a training log, may hold any number
        refuse_values(place, data)


def _refuse_code(place: str, data: Any) -> None:
    for node in list_mappings(data):
        if key := next((key for key in CODE_KEYS if node.get(key)), None):
            raise ConfigError(
                f"{place} asks for code ({key}), and no code of a folder is run; remove {key} if the "
                "installed transformers knows the model itself"
            )
        if re.match("Auto(?!encoder)", str(node.get("_class_name", ""))):
            raise ConfigError(
                f"{place} asks for {node['_class_name']}, a class that looks up others; name the class itself"
            )


def _check_shards(where: str, index: Path, data: Any) -> None:
    """Refuses an index of weight files that names any but those beside it, which alone are checked and identified."""
    weight_map = data.get("weight_map") if isinstance(data, dict) else None
    names = weight_map.values() if isinstance(weight_map, dict) else [None]
    suffix = ".safetensors" if ".safetensors." in index.name else ""
    wrong = next((n for n in names if not (isinstance(n, str) and is_inside(n) and n.endswith(suffix))), "")
    if wrong is None:
        raise ConfigError(f"{where}: {index.name} has no weight_map")
    if wrong:
        raise ConfigError(
            f"{where}: {index.parent.name}/{index.name} names {str(wrong)[:80]!r}, which leads out of the folder or "
            "is no safetensors file; weights lie beside their index"
        )


def _read_any(where: str, file: Path) -> Any:
    """What a JSON file holds: an object where loaders read one, otherwise anything.

    A file that cannot be read within our bounds may still be one that a loader reads.
    """
    if CONFIGURATION.fullmatch(file.name):
        return read_config(where, file)
    try:
        return read_json(file, constants=True)
    except (InputError, OSError) as error:
        raise ConfigError(
            f"{where}: {file.parent.name}/{file.name} cannot be read as JSON: {error}; remove the file if the model "
            "does not need it"
        ) from error


def check_folder(where: str, folder: Path) -> None:
    """Checks a whole diffusers folder: its model_index.json and the configurations of all components.

    Raises:
        ConfigError: it asks for something that may not be loaded.
    """
    check_root(where, folder)
    for name in list_components(where, folder):
        if (folder / name).is_dir():
            check_component(where, folder / name)
