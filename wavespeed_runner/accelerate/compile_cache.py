"""Where compiled kernels are kept: below `outputs`, in a folder for each set of versions and each device.

The compiler's cache is set by environment variables, which it reads when it compiles; they are set while a pipeline
computes, and set back. Several processes may use one folder: the compiler writes a file under another name and renames
it, and locks what it builds.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from ..config.environment import read_device_name, read_versions
from ..errors import RunError
from .compile_options import CompileOptions

FOLDER = "compile_cache"
"""Below `outputs`."""
VARIABLES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
"""Environment variable of the compiler -> folder in ours."""


def find_folder(options: CompileOptions, outputs: str, device: str) -> Path:
    """The folder for these versions and this device.

    Machine code is made for the processor at hand, so machines with different ones that share a disk do not share it.
    """
    versions = {name: read_versions()[name] for name in ("torch", "python")}
    name = read_device_name(device)
    digest = sha256(json.dumps([versions, name, _read_cpu_flags()]).encode()).hexdigest()[:12]
    label = re.sub(r"[^\w.+-]+", "-", f"torch-{versions['torch']}-{name}")[:60]
    base = Path(options.cache_dir) if options.cache_dir else Path(outputs) / FOLDER
    return (base / f"{label}-{digest}").absolute()


def _read_cpu_flags() -> str:
    """The instructions that the processor has; empty where the system does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


@contextmanager
def use_folder(folder: Path) -> Iterator[None]:
    """Has the compiler keep its kernels in a folder while the context is open.

    Raises:
        RunError: the folder cannot be made.
    """
    before = {name: os.environ.get(name) for name in VARIABLES}
    try:
        for name, part in VARIABLES.items():
            (folder / part).mkdir(parents=True, exist_ok=True)
            os.environ[name] = str(folder / part)
    except OSError as error:
        _restore(before)
        raise RunError(
            f"compile.cache_dir: {folder} cannot be written to: {error.strerror}; name another folder on the command "
            "line"
        ) from None
    try:
        yield
    finally:
        _restore(before)


def _restore(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
