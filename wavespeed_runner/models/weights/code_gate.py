"""Decides which code a configuration inside a model folder may choose: torch's own, nothing downloaded or compiled.

transformers takes the names of its attention, of its experts and of a compiler's options from a configuration. Some of
them download compiled code from the hub where the package `kernels` is installed, others call a compiler for a minute.
Some of its classes download kernels without being asked to.
"""

from __future__ import annotations

import os
import re
from typing import Any, NoReturn

from .json_values import walk

IMPLEMENTATION_KEYS = re.compile(r"(?!cache_)\w*implementation(_internal)?", re.ASCII)
"""Keys that name code: `_attn_implementation`, `experts_implementation`. A cache's is only read to generate a text."""
IMPLEMENTATIONS = ("eager", "sdpa", "batched_mm", "grouped_mm")
"""What transformers does with torch's own operators."""
COMPILE_KEYS = re.compile(r"(?!disable_)\w*compile\w*", re.ASCII)
"""Keys that have a model compiled, with any options of a compiler: `compile_config`, `reference_compile`."""
ALIAS_KEYS = ("attribute_map", "sub_configs", "sub_configs_defaults")
"""Attributes of transformers' configurations by which another key would mean one of those above."""
HUB_KERNELS = "USE_HUB_KERNELS"
"""transformers' environment variable. Whoever sets it has decided."""


def explain_code(key: str, value: Any) -> str:
    """Why a key of a configuration may not have this value; empty if it may."""
    shown = f"= {str(value)[:80]!r}"
    if IMPLEMENTATION_KEYS.fullmatch(key):
        leaves = [leaf for leaf in walk(value) if not isinstance(leaf, dict | list)]
        if all(leaf in (None, "", *IMPLEMENTATIONS) for leaf in leaves):
            return ""
        return (
            f"{shown} asks for code that is downloaded or compiled, and no code of a folder is run; remove {key} "
            f"(allowed: {', '.join(IMPLEMENTATIONS)})"
        )
    if COMPILE_KEYS.fullmatch(key) and value:
        return f"{shown} asks for a compiler, which only a command line may; remove {key}, and type compile=..."
    if key in ALIAS_KEYS or (key.startswith("__") and key.endswith("__")):
        return "gives keys another meaning than the one that is checked; remove it"
    return ""


def forbid_hub_kernels() -> None:
    """Keeps transformers from downloading kernels for a class or a quantization that would have them by itself.

    Those of `attention=*_hub` are diffusers', and the user has typed them.
    """
    if HUB_KERNELS in os.environ:
        return
    from transformers.integrations import hub_kernels

    for name, value in (("_kernels_enabled", False), ("get_kernel", _refuse), ("get_kernel_hub", _refuse)):
        setattr(hub_kernels, name, value)


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise ImportError(f"no kernels are downloaded for a model; {HUB_KERNELS}=YES in the environment allows it")
