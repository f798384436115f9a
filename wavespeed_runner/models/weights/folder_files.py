"""The files of a component's folder that a loader could read, and how large those of them may be that are no JSON."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigError
from ...inputs import limits
from ...inputs.files import InputError, check_regular

NOT_READ = (
    ".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".onnx", ".onnx_data", ".pb",
    ".ot", ".xml", ".tflite", ".mlmodel", ".md", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4", ".log",
)  # fmt: skip
"""Endings of weights in all formats, and of what is there for people: of any size."""


def list_files(folder: Path) -> list[Path]:
    """Files of a folder, and of the folders in it, that a loader could read.

    Not the hidden ones, which are notes of a file manager, and which no configuration may name.
    """
    visible = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    inside = [entry for part in visible if part.is_dir() for entry in sorted(part.iterdir())]
    files = [*(entry for entry in visible if not entry.is_dir()), *(entry for entry in inside if not entry.is_dir())]
    return [file for file in files if not file.name.startswith(".")]


def refuse_size(where: str, file: Path) -> None:
    """Raises `ConfigError` for a vocabulary or template that is too large, or no regular file; JSON has its own bounds.

    Weights, and what is shown to people, are left alone: they may be large, and no tokenizer reads them.
    """
    if file.suffix.lower() in NOT_READ or ".json" in file.name.lower():
        return
    most = limits.MAX_CHAT_TEMPLATE_BYTES if file.suffix == ".jinja" else limits.MAX_VOCABULARY_BYTES
    try:
        check_regular(file, most)
    except (InputError, OSError) as error:
        raise ConfigError(
            f"{where}: {file.parent.name}/{file.name} is not read: {error}; remove the file if no loader needs it"
        ) from None
