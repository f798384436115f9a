"""Decides what of a model folder may be loaded, before anything of it is imported: a folder is data, never code.

transformers and diffusers run Python of the folder itself where its configurations ask for that (`auto_map`,
`trust_remote_code`, custom pipelines), and import whatever class a model_index.json names. Here only known kinds of
classes of known libraries pass. https://huggingface.co/docs/transformers/custom_models
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...inputs.documents import read_json
from ...inputs.files import InputError

LIBRARIES = ("diffusers", "transformers", "stable_diffusion", "ltx2")
"""Libraries that model_index.json may load classes from; the last two are pipeline folders of diffusers."""

ENDINGS = (
    "Model", "UNet", "Transformer", "VAE", "Vae", "Autoencoder", "Prior", "Encoder", "Decoder", "Adapter", "CLIP",
    "Projection", "Connectors", "Embedder", "Embeddings", "Head", "Upsampler", "Bank", "NeXt", "Renderer", "Vocoder",
    "VocoderWithBWE", "HifiGan", "Guidance", "Guider", "Normalizer", "Transformation", "Watermarker",
    "SafetyChecker", "Tokenizer", "TokenizerFast", "Detokenizer", "Processor", "ProcessorFast", "ProcessorPil",
    "Extractor", "Scheduler",
)  # fmt: skip
LOADABLE = re.compile(
    rf"(?!Auto(?!encoder)|\w*Pipeline)[A-Z]\w*({'|'.join(ENDINGS)}|(Model|UNet)\w+|For[A-Z]\w+)"
    r"|([A-Z]\w*)?Autoencoder\w+|(Tokenizers|SentencePiece|Python|MistralCommon)Backend",
    re.ASCII,
)
"""Names of classes that a component may have: models, tokenizers, processors and schedulers. Not the `Auto` classes,
which look up others by what a configuration says, not pipelines inside a pipeline, and not functions."""

CODE_KEYS = ("auto_map", "custom_pipelines", "trust_remote_code")
"""Keys of configurations that lead to code of the folder or of another repository."""


CONFIGURATION = re.compile(r"(\w+_)?config\.json|special_tokens_map\.json|added_tokens\.json")
"""Files that the loaders of diffusers and transformers read as objects."""

DATA_FILES = ("vocab.json", "tokenizer.json")


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
        raise ConfigError(f"{where}: {file.name} cannot be read as JSON: {error}") from error
    return data


def list_components(where: str, folder: Path) -> dict[str, tuple[str, str]]:
    """Component -> its library and class, as model_index.json names them, without those left out as [null, null].

    Args:
        where: `key=value` of the folder, for messages.
        folder: that holds the model_index.json.

    Raises:
        ConfigError: it cannot be read, or names something that may not be loaded.
    """
    index = read_config(where, folder / "model_index.json")
    if not isinstance(index.get("_class_name", ""), str):
        raise ConfigError(f"{where}: model_index.json asks for a pipeline of its own, and no code of a folder is run")
    components = {}
    for name, value in index.items():
        if not isinstance(value, list) or not value or value[0] is None:
            continue
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
        components[name] = (value[0], value[1])
    return components


def refuse_code(where: str, folder: Path) -> None:
    """Refuses a component's folder whose configurations ask for code.

    Raises:
        ConfigError: names the file and the key; or a configuration that loaders read cannot be read.
    """
    for file in sorted(folder.glob("*.json")):
        # Hidden ones are notes of a file manager. The others are large, and never asked for classes.
        if file.name.startswith(".") or file.name.endswith(".index.json") or file.name in DATA_FILES:
            continue
        for node in _list_mappings(_read_any(where, file)):
            if key := next((key for key in CODE_KEYS if node.get(key)), None):
                raise ConfigError(
                    f"{where}: {folder.name}/{file.name} asks for code ({key}), and no code of a folder is run; remove "
                    f"{key} if the installed transformers knows the model itself"
                )
            if re.match("Auto(?!encoder)", str(node.get("_class_name", ""))):
                raise ConfigError(
                    f"{where}: {folder.name}/{file.name} asks for {node['_class_name']}, a class that "
                    "looks up others; name the class itself"
                )


def _read_any(where: str, file: Path) -> Any:
    """What a JSON file holds: an object where loaders read one, otherwise anything, or None if nothing can be read."""
    if CONFIGURATION.fullmatch(file.name):
        return read_config(where, file)
    try:
        return read_json(file, constants=True)
    except (InputError, OSError):
        return None  # nobody else will read it either


def _list_mappings(data: Any) -> Iterator[dict[str, Any]]:
    """All objects in JSON data: a text model inside of a larger one has a configuration inside of it."""
    level = [data]
    while level:
        yield from (node for node in level if isinstance(node, dict))
        nodes = (node.values() if isinstance(node, dict) else node for node in level if isinstance(node, list | dict))
        level = [value for node in nodes for value in node]


def check_folder(where: str, folder: Path) -> None:
    """Checks a whole diffusers folder: its model_index.json and the configurations of all components.

    Raises:
        ConfigError: it asks for something that may not be loaded.
    """
    for name in list_components(where, folder):
        if (folder / name).is_dir():
            refuse_code(where, folder / name)
