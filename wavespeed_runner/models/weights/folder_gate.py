"""Decides what of a model folder may be loaded, before anything of it is imported: a folder is data, never code.

transformers and diffusers run Python of the folder itself where its configurations ask for that (`auto_map`,
`trust_remote_code`, custom pipelines), and import whatever class a model_index.json names. Here only known kinds of
classes of known libraries pass. https://huggingface.co/docs/transformers/custom_models
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...inputs.documents import read_json
from ...inputs.files import InputError

LIBRARIES = ("diffusers", "transformers", "stable_diffusion", "ltx2")
"""Libraries that model_index.json may load classes from; the last two are pipeline folders of diffusers."""

LOADABLE = re.compile(
    r"(?!Auto(?!encoder))[A-Z]\w*(Model|ModelWithProjection|Encoder|ForConditionalGeneration|ForCausalLM|Tokenizer"
    r"|TokenizerFast|Processor|ProcessorFast|ProcessorPil|Guidance|FeatureExtractor|Scheduler|SafetyChecker|Vocoder|VocoderWithBWE|Connectors"
    r"|Upsampler|LatentUpsamplerModel|Transformer|VAE|Adapter)"
    r"|Autoencoder\w+|(Tokenizers|SentencePiece|Python|MistralCommon)Backend",
    re.ASCII,
)
"""Names of classes that a component may have: models, tokenizers, processors and schedulers. Not the `Auto` classes,
which look up others by what a configuration says, and not pipelines inside a pipeline."""

CODE_KEYS = ("auto_map", "custom_pipelines", "trust_remote_code")
"""Keys of configurations that lead to code of the folder or of another repository."""


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
                f"{where}: component '{name}' asks for {value[0]}.{str(value[-1])[:80]}, which is none of the models, "
                "tokenizers, processors and schedulers that may be loaded; name the class itself in model_index.json"
            )
        if not re.fullmatch(r"\w+", name, re.ASCII):
            raise ConfigError(f"{where}: component {name[:80]!r} in model_index.json: not the name of a folder")
        components[name] = (value[0], value[1])
    return components


def refuse_code(where: str, folder: Path) -> None:
    """Refuses a component's folder whose configurations ask for code.

    Raises:
        ConfigError: names the file and the key.
    """
    for file in sorted(folder.glob("*.json")):
        if file.name.endswith(".index.json") or file.name in ("vocab.json", "tokenizer.json"):
            continue  # large, and never asked for classes
        data = read_config(where, file)
        # A text model inside of a larger one has a configuration inside of it.
        for node in (data, *(value for value in data.values() if isinstance(value, dict))):
            if key := next((key for key in CODE_KEYS if node.get(key)), None):
                raise ConfigError(
                    f"{where}: {folder.name}/{file.name} asks for code ({key}), and no code of a folder is run; remove "
                    f"{key} if the installed transformers knows the model itself"
                )
            if str(node.get("_class_name", "")).startswith("AutoModel"):
                raise ConfigError(
                    f"{where}: {folder.name}/{file.name} asks for {node['_class_name']}, a class that "
                    "looks up others; name the class itself"
                )


def check_folder(where: str, folder: Path) -> None:
    """Checks a whole diffusers folder: its model_index.json and the configurations of all components.

    Raises:
        ConfigError: it asks for something that may not be loaded.
    """
    for name in list_components(where, folder):
        if (folder / name).is_dir():
            refuse_code(where, folder / name)
