"""What a test must leave as it found it: the state of the process that later tests of other files would inherit.

A suite of one process a core runs hundreds of tests in each. One that leaves `torch.nn.init` without effect, another
number of threads or another attention back end makes tests of other files fail, which pass alone; with this, it fails
itself.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

NOT_OURS = ("PYTEST_", "TORCHINDUCTOR_", "_TORCHINDUCTOR_", "CUDA_")
"""Beginnings of environment variables that pytest changes from test to test, and torch once, when first used."""


def describe_process() -> dict[str, Any]:
    """Names of settings with their values, comparable; of torch and the libraries on it only what is imported."""
    state: dict[str, Any] = {
        "the working directory": os.getcwd(),
        "environment variables": {k: v for k, v in os.environ.items() if not k.startswith(NOT_OURS)},
        "handlers of signals": {s.name: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)},
    }
    if (torch := sys.modules.get("torch")) and hasattr(torch, "get_num_threads") and hasattr(torch, "nn"):
        state |= _describe_torch(torch)
    if dispatch := sys.modules.get("diffusers.models.attention_dispatch"):
        state["diffusers' attention back end"] = dispatch._AttentionBackendRegistry.get_active_backend()
    return state


def _describe_torch(torch: Any) -> dict[str, Any]:
    init = torch.nn.init
    return {
        "functions of torch.nn.init": {n: f for n, f in vars(init).items() if n.endswith("_") and callable(f)},
        "methods of torch's modules": {
            f"{layer.__name__}.{name}": vars(layer).get(name)
            for layer in (torch.nn.Module, torch.nn.Linear, torch.nn.Conv2d, torch.nn.LayerNorm)
            for name in ("__call__", "forward", "reset_parameters", "to", "cuda")
        },
        "torch's functions": (torch.nn.functional.scaled_dot_product_attention, torch.nn.functional.linear),
        "torch's threads": torch.get_num_threads(),
        "torch's dtype": torch.get_default_dtype(),
        "torch's device": str(torch.get_default_device()),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "denormal numbers": bool(torch.tensor(1e-40).mul(1).item()),
        "precision of float32": torch.get_float32_matmul_precision(),
        "oneDNN": (torch.backends.mkldnn.enabled, torch.backends.mkldnn.deterministic),
        "attention of torch": (
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
            torch.backends.cuda.math_sdp_enabled(),
        ),
        "function modes": torch.overrides._get_current_function_mode_stack(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "a process group": torch.distributed.is_available() and torch.distributed.is_initialized(),
    }


def list_differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs, by name, with the values before and after; what was not imported before is not compared."""
    found = []
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        if isinstance(old, dict):
            found += [
                f"{name}: {k}: {old.get(k)!r} -> {new.get(k)!r}"
                for k in sorted({*old, *new})
                if old.get(k) != new.get(k)
            ]
        elif old != new:
            found.append(f"{name}: {old!r} -> {new!r}")
    return sorted(found)
