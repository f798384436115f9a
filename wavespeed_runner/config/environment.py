"""Describes machine, versions and code: part of every store key and of every record.

Does not import torch, so that a plan can say within a second what is already in the store.
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

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "safetensors",
    "tokenizers",
    "numpy",
    "scipy",
    "accelerate",
    "peft",
    "torchao",
)
HARMLESS = (
    "__main__.py",
    "api",
    "calibrations",
    "cli",
    "judges",
    "prompts",
    "records",
    "report",
    "rules",
    "samples",
    "sharing",
    "sweeps",
    "tune",
    "tuning",
    "weights",
)
"""Files and folders of this package that cannot change a bit of a stored result: code that only prints, records,
refuses or starts jobs, and data whose content is part of the keys (weights, images, prompts, calibrations). Every other
file counts, so new code does until it is named here. `process` counts: it decides how CUDA numbers the cards."""
INSTALLED = "conf"
"""In the package only where it was installed, and just as harmless: config values are part of the keys."""
VARIABLES = (
    "DIFFUSERS_ATTN_BACKEND",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_COMPILE_DISABLE",
    "TORCHDYNAMO_DISABLE",
    "CXX",
)
"""Environment variables that choose kernels."""
DRIVER_SIGNS = ("/proc/driver/nvidia/version", "/dev/nvidia0", "/dev/dxg")
"""If one of these exists there may be an NVIDIA GPU; the last is WSL's."""
CARDS = "/proc/driver/nvidia/gpus"
"""Where the driver lists its cards, a folder each, named after the bus."""


@lru_cache(maxsize=1)
def read_versions() -> dict[str, str]:
    """Reads the installed versions of all packages that determine the images; 'absent' for one that is missing."""
    versions = {"python": platform.python_version(), "wavespeed_runner": __version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return versions


@lru_cache(maxsize=1)
def digest_code() -> str:
    """Hashes all of our code but the harmless part, so that changed code never gets results of the old code.

    Raises:
        RuntimeError: a name in `HARMLESS` does not exist; it was probably renamed, and would count under its new name.
    """
    root = Path(__file__).parents[1]
    if absent := [name for name in HARMLESS if not (root / name).exists()]:
        raise RuntimeError(f"environment.HARMLESS: the package has no {', '.join(absent)}; give the present name")
    left_out = {root / name for name in (*HARMLESS, INSTALLED)}
    return _digest(root, list(_files(root, left_out)))


def _files(folder: Path, left_out: set[Path]) -> Iterator[Path]:
    """Every file below a folder except `left_out`, compiled code, and hidden files (an editor's)."""
    for path in folder.iterdir():
        if path in left_out or path.name.startswith(".") or path.suffix == ".pyc":
            continue
        if path.is_dir():
            yield from _files(path, left_out)
        elif path.is_file():
            yield path


@lru_cache(maxsize=1)
def digest_plugins() -> dict[str, str]:
    """Hashes every installed plugin's code: its strategies, families and samplers determine results too."""
    roots = {name: Path(str(sys.modules[name].__file__)).parent for name in registry.load_all()}
    return {name: _digest(root, list(root.rglob("*.py"))) for name, root in roots.items()}


def _digest(root: Path, files: list[Path]) -> str:
    digest = sha256()
    for file in sorted(files):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


@lru_cache(maxsize=1)
def has_cuda() -> bool:
    """True if there seem to be an NVIDIA GPU and a torch that can use it; found out without importing torch."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    return not hidden and "+cpu" not in read_versions()["torch"] and any(Path(sign).exists() for sign in DRIVER_SIGNS)


def resolve_device(device: str) -> str:
    """Resolves `auto` to `cuda`, `mps` or `cpu`, whichever this machine has."""
    if device != "auto":
        return device
    if has_cuda():
        return "cuda"
    return "mps" if sys.platform == "darwin" and platform.machine() == "arm64" else "cpu"


@lru_cache(maxsize=8)
def read_device_name(device: str) -> str:
    """Reads the processor's name: only on the same processor are results bit-equal and timings comparable."""
    if device.startswith("cuda"):
        return _gpu_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    model = _field(cpuinfo.read_text(), "model name") if cpuinfo.exists() else ""
    return f"{model or platform.processor() or platform.machine()} x{count_threads()}"


def _gpu_name(device: str) -> str:
    """The card's model where the driver shows which one torch will use; otherwise the device as given.

    Cards are listed by PCI bus; `process/exit_status.py` makes CUDA number them in that order.
    """
    card, cards = find_card(device), sorted(Path(CARDS).glob("*/information"))
    if card.isdigit() and int(card) < len(cards):
        return _field(cards[int(card)].read_text(), "Model")
    return f"{device} {os.environ.get('CUDA_VISIBLE_DEVICES') or ''}".strip()


def count_cards() -> int | None:
    """Counts the CUDA devices that torch will see, without torch; None where the driver does not list them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([card for card in visible.split(",") if card.strip() not in ("", "-1")])
    return len(list(Path(CARDS).glob("*/information"))) or None


def find_card(device: str) -> str:
    """The card that torch uses for a CUDA device: its number among all cards, its UUID, or empty if there is none."""
    index, visible = device.partition(":")[2] or "0", os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible and index.isdigit():
        chosen = visible.split(",")
        index = chosen[int(index)].strip() if int(index) < len(chosen) else ""
    return index


def count_threads() -> int:
    """Counts the CPU threads that torch will use, by environment or affinity.

    Sums are split among them, so their number determines the last bits.
    """
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        return int(os.environ["OMP_NUM_THREADS"])
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def collect_key_parts(device: str) -> dict[str, str]:
    """Collects everything outside the configuration that may change a result: part of every store key.

    Not plugins that only judge images: with another one, no image has to be made again.
    """
    making = {name: digest for name, digest in digest_plugins().items() if not registry.only_judges(name)}
    set_here = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return {
        **read_versions(),
        **making,
        **set_here,
        "code": digest_code(),
        "device": read_device_name(device),
    }


def digest_software() -> str:
    """Hashes versions, plugins and code: machines that share a sweep must agree on it."""
    return sha256(json.dumps([read_versions(), digest_plugins(), digest_code()], sort_keys=True).encode()).hexdigest()


def describe_environment(device: str) -> dict[str, object]:
    """Describes machine and versions: the record's `environment`."""
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
    """The checkout's commit, with `+` if it has changes; None for an installed package."""
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
