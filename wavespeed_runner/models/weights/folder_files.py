"""The files of a component's folder that a loader could read, and how large those of them may be that are no JSON."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from ...errors import ConfigError
from ...inputs import limits
from ...inputs.files import InputError, check_regular

NOT_READ = (
    ".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".onnx", ".onnx_data", ".pb",
    ".ot", ".xml", ".tflite", ".mlmodel", ".md", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4", ".log",
)  # fmt: skip
"""Endings of weights in all formats, and of what is there for people: of any size."""


def list_files(where: str, folder: Path) -> list[Path]:
    """Files of a component's folder, and of the folders in it, that a loader could read.

    Not the hidden ones, which are notes of a file manager, and which no configuration may name.

    Raises:
        ConfigError: a folder cannot be read, is a link, or has too many entries.
    """
    visible = scan(where, folder)
    folders = [entry for entry in visible if _is_folder(entry)]
    for entry in folders:
        refuse_link(where, entry)
    inside = [entry for part in folders for entry in scan(where, part)]
    return [entry for entry in (*visible, *inside) if not _is_folder(entry)]


def _is_folder(entry: Path) -> bool:
    """False for what cannot be looked at, too: reading it says why."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def scan(where: str, folder: Path) -> list[Path]:
    """The visible entries of a folder, sorted. Raises `ConfigError` where it cannot be read or has too many."""
    most = limits.MAX_FOLDER_ENTRIES
    try:
        os.stat(folder / ".")  # needs the right to enter it, which reading names does not
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, most + 1)]
    except OSError as error:
        raise ConfigError(f"{where}: the folder {folder.name} cannot be read: {error.strerror}") from None
    if len(names) > most:
        raise ConfigError(f"{where}: the folder {folder.name} has more than {most} entries; that is the most")
    return [folder / name for name in sorted(names) if not name.startswith(".")]


def refuse_link(where: str, folder: Path) -> None:
    """Raises `ConfigError` for a folder that is a link: its files would not count in the model's identity.

    Files may be links: those of the hub's cache are, to its blobs.
    """
    if folder.is_symlink() and _is_folder(folder):
        raise ConfigError(
            f"{where}: the folder {folder.name} is a link to another folder, and only links to files are followed; "
            "make it a folder, with copies of the files or links to them"
        )


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
