"""Identifies model weights by content or hub commit, so that stored results of one model never stand for another's.

No torch, no network.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from pathlib import Path
from typing import BinaryIO

from .checkpoint import find_local_path

LOADED_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja")
"""Files that loading reads: weights, configurations, vocabularies, chat templates."""
DEPTH = 4
"""Folders in folders of a model that are looked into. Loaders read those of the components, and the folders in them."""
WHOLE_BYTES = 16 * 1024 * 1024
"""Files up to this size are hashed whole, larger ones by their header and sampled blocks."""
SAMPLES = 256
"""Number of sampled blocks."""
SAMPLE_BYTES = 4096
"""Size of each."""
UNKNOWN = secrets.token_hex(8)
"""Stands for an unknown commit. It differs in every process, so nothing stored is ever found under it."""


def identify_weights(repo: str, revision: str | None) -> str:
    """A text that says which weights these are: the same for the same weights, wherever they are stored.

    Local: a digest of the relative name, size and content of every file. Of a file above 16 MiB it covers the header,
    256 evenly spaced blocks and, for what lies between them, the modification time: 24 GB take well under a second.
    Hub id: the id and the commit that the local cache holds for the revision. Before the first download that commit is
    unknown, and the identity equals no other.
    """
    path = find_local_path(repo)
    if path is None:
        commit = find_cached_commit(repo, revision or "main")
        return f"hub:{repo}@{commit or f'not downloaded before {UNKNOWN}'}"
    digest = hashlib.sha256()
    for name, file in _list_files(path):
        size = file.stat().st_size
        digest.update(json.dumps([name, size]).encode())
        with file.open("rb") as stream:
            if size <= WHOLE_BYTES:
                digest.update(stream.read())
            else:
                digest.update(str(file.stat().st_mtime_ns).encode())
                _hash_samples(digest, stream, size)
    return f"sha256:{digest.hexdigest()}"


def _hash_samples(digest: hashlib._Hash, stream: BinaryIO, size: int) -> None:
    """Adds the header of a safetensors file and evenly spaced blocks of its data to a digest."""
    length = min(int.from_bytes(stream.read(8), "little"), WHOLE_BYTES)
    stream.seek(0)
    digest.update(stream.read(8 + length))
    for i in range(SAMPLES):
        stream.seek(i * (size - SAMPLE_BYTES) // (SAMPLES - 1))
        digest.update(stream.read(SAMPLE_BYTES))


def _list_files(path: Path) -> list[tuple[str, Path]]:
    """(relative name, file), sorted. Only files that loading reads: an edited README is not another model."""
    if not path.is_dir():
        return [("", path)]
    listed = []
    for folder, folders, names in os.walk(path):
        depth = len(Path(folder).relative_to(path).parts)
        folders[:] = [name for name in folders if not name.startswith(".") and depth < DEPTH]
        files = (Path(folder) / name for name in names if name.endswith(LOADED_SUFFIXES) and not name.startswith("."))
        listed += [(file.relative_to(path).as_posix(), file) for file in files if file.is_file()]
    return sorted(listed)


def find_cached_commit(repo: str, revision: str) -> str:
    """The commit behind a branch or tag in the local hub cache, or "".

    Reads the cache by the layout that huggingface_hub documents, without importing it.
    """
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    if ".." in revision:
        return ""
    try:
        commit = (cache / f"models--{repo.replace('/', '--')}" / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
    return commit if re.fullmatch(r"[0-9a-f]{40}", commit) else ""


def find_downloaded_commit(repo: str) -> str | None:
    """The commit of a hub repository's main branch that was downloaded first, or None.

    Loading asks for this commit, so that the weights in use are the ones that store keys name.
    """
    return find_cached_commit(repo, "main") or None
