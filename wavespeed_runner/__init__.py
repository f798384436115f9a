"""Find, prove and share the fastest settings of a diffusion model: a runner driven by YAML.

In a program of your own: `from wavespeed_runner import load, accelerate` (docs/python.md). Importing this package
imports neither torch nor diffusers.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

OFFERED = {"load": ".api.loaded", "accelerate": ".api.borrowed"}
"""Function -> where it is. Imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    if name not in OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(OFFERED[name], __name__), name)


class _Package(ModuleType):
    """Keeps the function `accelerate` in sight: Python would put the folder of that name here once it is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in OFFERED and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
