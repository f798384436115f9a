"""Where compiled kernels are kept: below `outputs`, in a folder for each user, set of versions and device.

The compiler's cache is set by environment variables, which it reads when it compiles; they are set while a pipeline
computes, and set back. Several processes may use one folder: the compiler writes a file under another name and renames
it, and locks what it builds.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from ..config.environment import read_device_name, read_versions
from ..errors import RunError, format_error
from .compile_mark import mark
from .compile_options import CompileOptions

log = logging.getLogger("wavespeed_runner")

FOLDER = "compile_cache"
"""Below `outputs`."""
VARIABLES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
"""Environment variable of the compiler -> folder in ours."""


def find_folder(options: CompileOptions, outputs: str, device: str) -> Path:
    """The folder for these versions and this device; below `outputs` also for this user and this place.

    Machine code is made for the processor at hand, so machines with different ones that share a disk do not share it.
    `outputs` may have come with a folder that somebody sent; a folder that was typed is trusted.
    """
    versions = {name: read_versions()[name] for name in ("torch", "python")}
    name = read_device_name(device)
    about = json.dumps([versions, name, _read_cpu_flags()])
    label = re.sub(r"[^\w.+-]+", "-", f"torch-{versions['torch']}-{name}")[:60]
    if options.cache_dir:
        return (Path(options.cache_dir) / f"{label}-{sha256(about.encode()).hexdigest()[:12]}").absolute()
    base = (Path(outputs) / FOLDER).absolute()
    try:
        return base / f"{label}-{mark([about, str(base)])}"
    except OSError as error:
        return _make_temporary(format_error(error)) / label


@lru_cache(maxsize=1)
def _make_temporary(reason: str) -> Path:
    """A folder for this process, where the user's secret cannot be kept."""
    log.warning(
        "compile.cache_dir: no kernels are kept from run to run, as %s; name a folder on the command line", reason
    )
    folder = tempfile.mkdtemp(prefix="wavespeed_compile_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


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
