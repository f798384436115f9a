"""What machine and what versions: part of every store key, and of every record. No torch is imported here, so that a
plan can say in a second what is already in the store.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from . import __version__

PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "tokenizers", "numpy", "accelerate")
COMPUTING = ("models", "stages", "caching", "samplers.py", "values.py")
"""Our own code that decides the bits of a result."""


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Installed versions of what decides the pictures; 'absent' for what is not there."""
    found = {"python": platform.python_version(), "wavespeed_runner": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Digest of our computing modules, so that a changed line never meets results of the old one."""
    root = Path(__file__).parent
    files = sorted(
        f for part in COMPUTING for f in ([root / part] if part.endswith(".py") else (root / part).rglob("*.py"))
    )
    digest = sha256()
    for file in files:
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


@lru_cache(maxsize=1)
def has_cuda() -> bool:
    """Whether an NVIDIA driver and a torch that can use it are there, judged without importing torch."""
    return "+cpu" not in versions()["torch"] and Path("/proc/driver/nvidia/version").exists()


def resolve_device(device: str) -> str:
    """`auto` -> `cuda`, `mps` or `cpu`, as this machine has it."""
    if device != "auto":
        return device
    if has_cuda():
        return "cuda"
    return "mps" if sys.platform == "darwin" and platform.machine() == "arm64" else "cpu"


@lru_cache(maxsize=8)
def device_name(device: str) -> str:
    """The processor's own name: results are bit-equal, and timings comparable, only on the same one."""
    if device.startswith("cuda"):
        index = device.partition(":")[2] or "0"
        cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        if int(index) < len(cards):
            return _field(cards[int(index)].read_text(), "Model")
        return device
    cpuinfo = Path("/proc/cpuinfo")
    model = _field(cpuinfo.read_text(), "model name") if cpuinfo.exists() else ""
    return f"{model or platform.processor() or platform.machine()} x{threads()}"


def threads() -> int:
    """CPU threads that torch will use: reductions are split among them, so they decide the last bits."""
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        return int(os.environ["OMP_NUM_THREADS"])
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def what_matters(device: str) -> dict[str, str]:
    """Everything outside the configuration that may change a result: joins every store key."""
    return {**versions(), "code": code_digest(), "device": device_name(device)}


def describe(device: str) -> dict[str, object]:
    """The record's `environment`."""
    return {
        "versions": versions(),
        "code": code_digest()[:16],
        "device": device,
        "device_name": device_name(device),
        "driver": _driver() if device.startswith("cuda") else None,
        "platform": platform.platform(),
        "threads": threads(),
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


def _commit() -> str | None:
    """The checkout's commit, with `+` when it has changes; null for an installed package."""
    root = Path(__file__).parents[1]
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
