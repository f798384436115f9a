"""What machine and what versions: part of every store key, and of every record. No torch is imported here, so that a
plan can say in a second what is already in the store.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .. import __version__, registry

PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "tokenizers", "numpy", "scipy", "accelerate", "peft")
HARMLESS = (
    "__main__.py",
    "calibrations",
    "cli",
    "process",
    "prompts",
    "records",
    "report",
    "rules",
    "samples",
    "sharing",
    "sweeps",
    "tuning",
    "weights",
)
"""Files and folders of this package that cannot change a bit of a stored result: what only prints, records, refuses or
starts jobs, and data whose content is in the keys itself (weights, images, prompts, calibrations). Every other file
counts, so that new code does until it is named here."""
INSTALLED = "conf"
"""Lies in the package only where it was installed, and is as harmless: the values are in the keys themselves."""
VARIABLES = ("DIFFUSERS_ATTN_BACKEND", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")
"""Environment variables that choose other kernels."""
DRIVER_SIGNS = ("/proc/driver/nvidia/version", "/dev/nvidia0", "/dev/dxg")
"""Where one of these is, an NVIDIA GPU may be; the last is WSL's."""
CARDS = "/proc/driver/nvidia/gpus"
"""Where the driver tells of its cards, a folder each, named after the bus."""


@lru_cache(maxsize=1)
def read_versions() -> dict[str, str]:
    """Installed versions of what decides the images; 'absent' for what is not there."""
    found = {"python": platform.python_version(), "wavespeed_runner": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


@lru_cache(maxsize=1)
def digest_code() -> str:
    """Digest of all of our code but the harmless part, so that a changed line never meets results of the old one.

    Raises:
        RuntimeError: a harmless name is not there, so it was renamed, and would count under the new name.
    """
    root = Path(__file__).parents[1]
    if absent := [name for name in HARMLESS if not (root / name).exists()]:
        raise RuntimeError(f"environment.HARMLESS: the package has no {', '.join(absent)}; give the present name")
    left_out = {root / name for name in (*HARMLESS, INSTALLED)}
    return _digest(root, list(_files(root, left_out)))


def _files(folder: Path, left_out: set[Path]) -> Iterator[Path]:
    """Every file below a folder but what is left out, compiled code, and hidden files, which are an editor's."""
    for path in folder.iterdir():
        if path in left_out or path.name.startswith(".") or path.suffix == ".pyc":
            continue
        if path.is_dir():
            yield from _files(path, left_out)
        elif path.is_file():
            yield path


@lru_cache(maxsize=1)
def digest_plugins() -> dict[str, str]:
    """The same for every installed plugin: a strategy, a family or a sampler of theirs decides results too."""
    roots = {name: Path(str(sys.modules[name].__file__)).parent for name in registry.load_all()}
    return {name: _digest(root, list(root.rglob("*.py"))) for name, root in roots.items()}


def _digest(root: Path, files: list[Path]) -> str:
    digest = sha256()
    for file in sorted(files):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


@lru_cache(maxsize=1)
def has_cuda() -> bool:
    """Whether an NVIDIA GPU and a torch that can use it seem to be there, judged without importing torch."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    return not hidden and "+cpu" not in read_versions()["torch"] and any(Path(sign).exists() for sign in DRIVER_SIGNS)


def resolve_device(device: str) -> str:
    """`auto` -> `cuda`, `mps` or `cpu`, as this machine has it."""
    if device != "auto":
        return device
    if has_cuda():
        return "cuda"
    return "mps" if sys.platform == "darwin" and platform.machine() == "arm64" else "cpu"


@lru_cache(maxsize=8)
def read_device_name(device: str) -> str:
    """The processor's own name: results are bit-equal, and timings comparable, only on the same one."""
    if device.startswith("cuda"):
        return _gpu_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    model = _field(cpuinfo.read_text(), "model name") if cpuinfo.exists() else ""
    return f"{model or platform.processor() or platform.machine()} x{count_threads()}"


def _gpu_name(device: str) -> str:
    """The card's model where the driver tells which one torch will take; else what was asked for.

    Cards are listed by PCI bus; `cli` makes CUDA count them in that order.
    """
    index, visible = device.partition(":")[2] or "0", os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        chosen = visible.split(",")
        index = chosen[int(index)].strip() if int(index) < len(chosen) else ""
    cards = sorted(Path(CARDS).glob("*/information"))
    if index.isdigit() and int(index) < len(cards):
        return _field(cards[int(index)].read_text(), "Model")
    return f"{device} {visible or ''}".strip()


def count_threads() -> int:
    """CPU threads that torch is expected to use, by environment or affinity: reductions are split among them, so their
    number decides the last bits."""
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        return int(os.environ["OMP_NUM_THREADS"])
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def collect_key_parts(device: str) -> dict[str, str]:
    """Everything outside the configuration that may change a result: joins every store key."""
    set_here = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return {
        **read_versions(),
        **digest_plugins(),
        **set_here,
        "code": digest_code(),
        "device": read_device_name(device),
    }


def digest_software() -> str:
    """Identifies versions, plugins and code: what machines that share a sweep must have in common."""
    return sha256(json.dumps([read_versions(), digest_plugins(), digest_code()], sort_keys=True).encode()).hexdigest()


def describe_environment(device: str) -> dict[str, object]:
    """The record's `environment`."""
    return {
        "versions": read_versions(),
        "code": digest_code()[:16],
        "device": device,
        "device_name": read_device_name(device),
        "driver": _driver() if device.startswith("cuda") else None,
        "platform": platform.platform(),
        "threads": count_threads(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "plugins": {name: digest[:16] for name, digest in digest_plugins().items()},
        "commit": _commit(),
    }


def _field(text: str, name: str) -> str:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _driver() -> str | None:
    try:
        return Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    except OSError:
        return None


@lru_cache(maxsize=1)
def _commit() -> str | None:
    """The checkout's commit, with `+` when it has changes; null for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        run = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()
