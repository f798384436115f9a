"""How many tokens a model's tokenizers were made for, from its files: nothing is loaded."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ...inputs.documents import read_json
from ...inputs.files import InputError
from ..weights.checkpoint import find_local_path

FOLDERS = ("tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4")
UNLIMITED = 10**6
"""transformers writes 10^30 for a tokenizer that was given no limit."""


def find_longest_tokenizer(repo: str) -> int | None:
    """The most tokens that any tokenizer of a local model was made for, as its files say.

    Args:
        repo: local folder, or `pkg://package/folder`.

    Returns:
        None for a repository on the hub, a single file, and where a tokenizer has no limit or does not tell.
    """
    folder = find_local_path(repo)
    if folder is None or not folder.is_dir():
        return None
    files = [folder / name / "tokenizer_config.json" for name in FOLDERS if (folder / name).is_dir()]
    lengths = [_read_length(file, file.stat().st_mtime_ns) if file.is_file() else None for file in files]
    known = [length for length in lengths if length is not None]
    return max(known) if known and len(known) == len(lengths) else None


@lru_cache(maxsize=64)
def _read_length(file: Path, changed: int) -> int | None:
    """`model_max_length` of a tokenizer; `changed` is the file's time, so that a new one is read again."""
    try:
        data = read_json(file)
    except (InputError, OSError):  # said where the model's files are checked
        return None
    length = data.get("model_max_length") if isinstance(data, dict) else None
    return length if isinstance(length, int) and 0 < length < UNLIMITED else None
