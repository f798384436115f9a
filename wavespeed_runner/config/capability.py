"""Reads what a run's device can compute, without torch: planning has no time for it.

NVML is the driver's own library, https://docs.nvidia.com/deploy/nvml-api/. It lists the cards by PCI bus, the order in
which `process/exit_status.py` makes CUDA number them.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Any

from .environment import find_card

LIBRARY = "libnvidia-ml.so.1"
HALF = {"bfloat16": {"avx512_bf16", "amx_bf16"}, "float16": {"avx512_fp16", "amx_fp16"}}
"""Number format -> the flags of x86 CPUs, of which one is needed to compute in it; the others convert it each time."""


@lru_cache(maxsize=8)
def read_capability(device: str) -> tuple[int, int] | None:
    """The compute capability of a CUDA device, such as (9, 0) for Hopper.

    Returns:
        None if it is not known: no CUDA device, or this machine has no NVIDIA driver.
    """
    card = find_card(device) if device.partition(":")[0] == "cuda" else ""
    if not card:
        return None
    try:
        nvml = ctypes.CDLL(LIBRARY)
        if nvml.nvmlInit_v2() != 0:
            return None
    except (OSError, AttributeError):
        return None
    try:
        return _ask(nvml, card)
    except AttributeError:  # a driver too old to have the function
        return None
    finally:
        nvml.nvmlShutdown()


@lru_cache(maxsize=4)
def has_fast_half(dtype: str) -> bool:
    """False if this CPU is known to lack instructions for a 16-bit number format: x86 without those of `HALF`."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    return not flags or bool(flags & HALF.get(dtype, set()))


def _ask(nvml: Any, card: str) -> tuple[int, int] | None:
    """The capability of a card by its number or UUID, from the initialized library."""
    handle, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
    if card.isdigit():
        failed = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(card)), ctypes.byref(handle))
    else:
        failed = nvml.nvmlDeviceGetHandleByUUID(card.encode(), ctypes.byref(handle))
    if failed or nvml.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor)):
        return None
    return major.value, minor.value
