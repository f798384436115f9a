"""What `model.repo` may name, checked and identified without loading anything: no torch, no safetensors, no network.

`inspect` finds, in milliseconds and before anything else is loaded, what would fail minutes later: a path that is not
there, weights that are pickles (which run code when opened, and are refused), files cut off by a broken download.
`identity` says which weights these are, so that results stored for one model are not taken for another's.

Format: https://github.com/huggingface/safetensors#format. A file is 8 bytes little-endian header length, a JSON header
{name: {dtype, shape, data_offsets: [begin, end]}}, and the data, which the offsets cover without gap or overlap.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from ...config.paths import resolve_path
from ...errors import ConfigError

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
ALLOWED = "allowed: a hub id 'owner/name', a local diffusers folder, a .safetensors file, or pkg://package/folder"
CONVERT = (
    "weights in pickle files are refused, because opening one can run any code; convert them where you trust them: "
    "load with diffusers and `save_pretrained(..., safe_serialization=True)`, or use a repository that has safetensors"
)
VARIANT = re.compile(r"\.([a-z]+\d+)(?:-\d+-of-\d+)?\.safetensors$")
"""`fp16` in `model.fp16.safetensors`, diffusers' `variant`."""
MAX_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library itself."""
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8}
BITS |= {"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64}
BITS |= {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64}
LIBRARIES = ("diffusers", "transformers", "stable_diffusion", "ltx2")
"""Whose classes a pipeline may be made of; the last two are folders of diffusers' own."""
READ = (".safetensors", ".json", ".txt", ".model", ".jinja")
"""Endings of the files that loading reads: weights, configurations, vocabularies, chat templates."""
WHOLE = 16 * 1024 * 1024
"""Files up to so many bytes are hashed whole, larger ones by their header and samples."""
SAMPLES, SAMPLE = 256, 4096
UNKNOWN = secrets.token_hex(8)
"""Stands for a commit that only this process could mean."""


def local(repo: str) -> Path | None:
    """The path that `repo` names on this machine, or None when it is a hub id; does not say whether it exists."""
    path = resolve_path(repo)
    looks_local = path.suffix.lower() in (*PICKLES, ".safetensors", ".gguf")
    if repo.startswith("pkg://") or path.exists() or looks_local or not HUB_ID.fullmatch(repo):
        return path
    return None


def inspect(
    repo: str,
    revision: str | None = None,
    key: str = "model.repo",
    *,
    without: Sequence[str] = (),
    weights: str | None = None,
) -> None:
    """Accepts a hub id and a sound local model.

    Args:
        without: components of a folder that nobody will load.
        weights: kind of weight files that is to be loaded, `model.weights`.

    Raises:
        ConfigError: nothing is there, only pickles are there, a safetensors file is corrupt or cut off, or a revision
            is given for what has none.
    """
    path = local(repo)
    if path is None:
        return
    if revision is not None:
        raise ConfigError(f"model.revision={revision}: only a hub id has revisions, and {key}={repo} is local")
    where = f"{key}={repo}"
    if not path.exists():
        raise ConfigError(f"{where}: no such file or folder ({ALLOWED})")
    if path.is_dir():
        _inspect_folder(where, path, without, weights)
    elif path.suffix.lower() in PICKLES:
        raise ConfigError(f"{where}: {CONVERT}")
    elif path.suffix.lower() != ".safetensors":
        raise ConfigError(f"{where}: this is no .safetensors file ({ALLOWED})")
    else:
        _refuse_corrupt(where, path)


def _inspect_folder(where: str, folder: Path, without: Sequence[str], weights: str | None) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        if _pickles_only(folder):
            raise ConfigError(f"{where}: {CONVERT}")
        raise ConfigError(f"{where}: no diffusers folder, it has no model_index.json ({ALLOWED})")
    for name in set(_components(where, index)) - set(without):
        if not (folder / name).is_dir():
            raise ConfigError(f"{where}: component '{name}' is named in model_index.json but has no folder")
        if _pickles_only(folder / name):
            raise ConfigError(f"{where}: '{name}' holds only pickles; {CONVERT}")
        _refuse_variants_only(where, folder / name, weights)
        for shards in (folder / name).glob("*.safetensors.index*.json"):
            missing = sorted(s for s in _shards(where, shards) if not (folder / name / s).is_file())
            if missing:
                raise ConfigError(f"{where}: '{name}' lacks {', '.join(missing)}; download it again")
        for file in sorted((folder / name).glob("*.safetensors")):
            _refuse_corrupt(where, file)


def _refuse_variants_only(where: str, component: Path, weights: str | None) -> None:
    """A folder may hold its weights as `model.fp16.safetensors` alone, which is only looked for when asked for."""
    files = [file.name for file in component.glob("*.safetensors")]
    kinds = {found.group(1) for name in files if (found := VARIANT.search(name))}
    if files and len([name for name in files if not VARIANT.search(name)]) == 0 and weights not in kinds:
        raise ConfigError(
            f"{where}: '{component.name}' holds only {', '.join(sorted(files))}; model.weights={min(kinds)} takes them"
        )


def _pickles_only(folder: Path) -> bool:
    suffixes = {file.suffix.lower() for file in folder.iterdir() if file.is_file()}
    return bool(suffixes & set(PICKLES)) and ".safetensors" not in suffixes


def _json(where: str, file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("not an object")
    except (ValueError, OSError) as error:
        raise ConfigError(f"{where}: {file.name} cannot be read as JSON: {error}") from error
    return data


def _components(where: str, index: Path) -> list[str]:
    """Names of the parts that the pipeline is made of; [null, null] stands for one that it does without.

    Each entry says which library's class loads the part, and diffusers imports whatever library that names.
    """
    parts = {k: v for k, v in _json(where, index).items() if isinstance(v, list) and v and v[0] is not None}
    for name, value in parts.items():
        if value[0] not in LIBRARIES:
            raise ConfigError(
                f"{where}: component '{name}' asks for code from {value[0]!r}; allowed: {', '.join(LIBRARIES)}"
            )
    return sorted(parts)


def _shards(where: str, index: Path) -> set[str]:
    """File names of the shards, which must lie beside their index."""
    weight_map = _json(where, index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(s, str) for s in weight_map.values()):
        raise ConfigError(f"{where}: {index.name} has no weight_map")
    return set(weight_map.values())


def _refuse_corrupt(where: str, file: Path) -> None:
    try:
        wrong = flaw(file)
    except OSError as error:
        wrong = str(error)
    if wrong:
        raise ConfigError(f"{where}: {file.name} is damaged: {wrong}; download or copy it again")


def flaw(file: Path) -> str | None:
    """What is wrong with a safetensors file, judged by its header and its size; None when nothing is."""
    facts = file.stat()
    return _flaw(file, facts.st_size, (facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino))


@lru_cache(maxsize=1024)
def _flaw(file: Path, size: int, version: tuple[int, ...]) -> str | None:
    """version: what changes when the file does, so that a sweep's plans read each header once."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            return f"cut off inside its header ({size} bytes)"
        if length > MAX_HEADER:
            return f"its header claims {length} bytes"
        try:
            header = json.loads(stream.read(length))
        except ValueError:
            return "its header is not JSON"
    if not isinstance(header, dict):
        return "its header is not an object"
    header.pop("__metadata__", None)
    try:
        spans = sorted(_span(name, tensor) for name, tensor in header.items())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return f"its header describes a tensor wrongly ({error})"
    end = 0
    for begin, stop in spans:
        if begin != end:
            return f"tensors do not follow each other at byte {begin}"
        end = stop
    if end != size - 8 - length:
        return f"{size} bytes long, by its header it should have {8 + length + end}"
    return None


def _span(name: str, tensor: dict[str, Any]) -> tuple[int, int]:
    begin, end = tensor["data_offsets"]
    shape = tensor["shape"]
    if not all(isinstance(n, int) and n >= 0 for n in (begin, end, *shape)):
        raise ValueError(f"'{name}': offsets and shape must be whole numbers")
    bits = BITS.get(tensor["dtype"])
    if bits is not None and (end - begin) * 8 != prod(shape) * bits:
        raise ValueError(f"'{name}': {end - begin} bytes for shape {shape} of {tensor['dtype']}")
    return begin, end


def identity(repo: str, revision: str | None) -> str:
    """Says which weights these are: the same text for the same weights, wherever they lie.

    Local: a digest over every file's relative name, size and content; of a file above 16 MiB the content is its header
    and 256 evenly spaced blocks, so that 24 GB take well under a second, and the time of its last change, for what lies
    between them. Hub id: the id and the commit that the local cache holds for the revision; before the first download
    nobody can know it, so nothing else ever has that identity.
    """
    path = local(repo)
    if path is None:
        commit = cached_commit(repo, revision or "main")
        return f"hub:{repo}@{commit or f'not downloaded before {UNKNOWN}'}"
    digest = hashlib.sha256()
    for name, file in _files(path):
        size = file.stat().st_size
        digest.update(json.dumps([name, size]).encode())
        with file.open("rb") as stream:
            if size <= WHOLE:
                digest.update(stream.read())
                continue
            digest.update(str(file.stat().st_mtime_ns).encode())
            length = min(int.from_bytes(stream.read(8), "little"), WHOLE)
            stream.seek(0)
            digest.update(stream.read(8 + length))
            for i in range(SAMPLES):
                stream.seek(i * (size - SAMPLE) // (SAMPLES - 1))
                digest.update(stream.read(SAMPLE))
    return f"sha256:{digest.hexdigest()}"


def _files(path: Path) -> list[tuple[str, Path]]:
    """(relative name, file), sorted; only what loading reads, so that a corrected README is not another model."""
    if not path.is_dir():
        return [("", path)]
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = (Path(folder) / name for name in names if name.endswith(READ) and not name.startswith("."))
        found += [(file.relative_to(path).as_posix(), file) for file in files if file.is_file()]
    return sorted(found)


def cached_commit(repo: str, revision: str) -> str:
    """Commit behind a branch or tag in the local hub cache, by the layout that huggingface_hub documents."""
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


def first_commit(repo: str) -> str | None:
    """The commit of a hub repository that was downloaded first, so that what is loaded is what store keys name."""
    return cached_commit(repo, "main") or None


def tensor_names(file: Path) -> list[str]:
    """Of a sound safetensors file."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        return [name for name in json.loads(stream.read(length)) if name != "__metadata__"]
