"""What a GPU is and can do: its facts, its peak, the energy that it has used."""

from __future__ import annotations

import ctypes
from time import perf_counter
from typing import Any


def measure_matmul(device: str) -> float | None:
    """TFLOP/s of a large product of bfloat16 matrices; None on a CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    times = []
    for _ in range(20):
        torch.cuda.synchronize(device)
        start = perf_counter()
        a @ a
        torch.cuda.synchronize(device)
        times.append(perf_counter() - start)
    return 2 * 8192**3 / sorted(times)[len(times) // 2] / 1e12


def describe_card(device: str) -> dict[str, Any] | None:
    """Name, memory, capability and clocks of the GPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    facts = torch.cuda.get_device_properties(device)
    return {
        "name": facts.name,
        "memory_bytes": facts.total_memory,
        "capability": f"{facts.major}.{facts.minor}",
        "cuda": torch.version.cuda,
    }


def read_energy(device: str) -> float | None:
    """Joules that the card has used since the driver was loaded, by NVML; None where that is not known."""
    if not device.startswith("cuda"):
        return None
    from wavespeed_runner.config.environment import find_card

    card = find_card(device)  # by CUDA_VISIBLE_DEVICES, too
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
        if not card.isdigit():
            return None
        failed = nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByIndex_v2(int(card), ctypes.byref(handle))
        failed = failed or nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
    except (OSError, AttributeError):
        return None
    return None if failed else millijoules.value / 1000
