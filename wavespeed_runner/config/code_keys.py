"""What of a config could run code: options of the compiler, its backend, attention kernels from the hub.

torch's compiler calls whatever program its options name, and writes where they say; a backend of another package, or
kernels that are downloaded, are code of others. A config file may choose only what is listed here. The rest must be
typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .. import registry
from ..errors import ConfigError
from ..inputs.documents import parse_json
from ..inputs.files import InputError

BACKENDS = ("inductor", "eager", "eager_noexcept", "aot_eager", "aot_eager_decomp_partition", "cudagraphs")
"""Backends of `torch.compile` that are torch's own and that a config file may name."""
SWITCHES = frozenset(
    (
        *("allow_buffer_reuse", "batch_fusion", "benchmark_epilogue_fusion", "benchmark_fusion", "combo_kernels"),
        *("comprehensive_padding", "constant_and_index_propagation", "conv_1x1_as_mm"),
        *("coordinate_descent_check_all_directions", "coordinate_descent_tuning", "dce", "deterministic"),
        *("emulate_precision_casts", "epilogue_fusion", "epilogue_fusion_first", "fallback_random"),
        *("force_fuse_int_mm_with_mul", "group_fusion", "inplace_buffers", "joint_graph_constant_folding"),
        *("keep_output_stride", "layout_optimization", "loop_ordering_after_fusion", "max_autotune"),
        *("max_autotune_gemm", "max_autotune_pointwise", "memory_planning", "online_softmax", "pattern_matcher"),
        *("permute_fusion", "pick_loop_orders", "prologue_fusion", "reorder_for_locality", "shape_padding"),
        *("split_cat_fx_passes", "split_reductions", "static_weight_shapes", "use_fast_math"),
    )
)
"""Options of Inductor that a config file may set, to true or false: they choose among its own kernels. No name has a
dot, and none names a program, a file, a folder, a cache of others, or a number of processes."""

COMPILE = re.compile(r"(.+\.)?compile\.(?:(backend)|options(?:\.(.+))?)")
ATTENTION = re.compile(r"(.+\.)?attention(\.name)?")
"""Keys of the config, or of a stage's options, that choose code."""


def refuse_code(leaves: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    """Refuses code that a config file chose.

    Args:
        leaves: dotted key -> value of a config, unresolved.
        typed: likewise of what was typed.

    Raises:
        ConfigError: names the key, what a config file may set, and how to type it.
    """
    for key, value in leaves.items():
        if match := COMPILE.fullmatch(key):
            if key in typed or value is None:
                continue
            _check_compile(key, value, match)
        elif ATTENTION.fullmatch(key) and (key.endswith(".name") or isinstance(value, str)):
            _check_attention(key, value, typed)


def chooses_code(key: str, value: Any) -> bool:
    """True if only the command line may choose this option of a config group."""
    return key == "attention" and value in _list_downloaded()


def _check_compile(key: str, value: Any, match: re.Match[str]) -> None:
    _, backend, option = match.groups()
    if backend and value not in BACKENDS:
        raise ConfigError(
            f"{key}={value}: a config file may name {', '.join(BACKENDS)}, for a backend may run any code; type "
            f"{key}={value} on the command line if you trust its package"
        )
    for name, given in [] if backend else [(option, value)] if option else _read_options(key, value):
        where = f"{key if option else f'{key}.{name}'}={given}"
        if name not in SWITCHES:
            raise ConfigError(
                f"{where}: a config file may switch Inductor's own fusions and the like (docs/compilation.md lists "
                "them), for others may run any program and write anywhere; type compile.options on the command line"
            )
        if not isinstance(given, bool):
            raise ConfigError(f"{where}: true or false is needed in a config file; or type it on the command line")


def _read_options(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of each option in JSON text; a mapping has keys of its own, unless it is empty."""
    if value == {}:
        return
    try:
        options = parse_json(value) if isinstance(value, str) and "${" not in value else value
    except InputError as error:
        raise ConfigError(f"{key}={value}: not JSON: {error}; write '{{\"NAME\": VALUE}}'") from None
    if options is not None and not isinstance(options, dict):
        raise ConfigError(f"{key}={value}: a config file may give a mapping, such as {{epilogue_fusion: true}}")
    yield from (options or {}).items()


def _check_attention(key: str, value: Any, typed: Mapping[str, Any]) -> None:
    if "${" in str(value):
        raise ConfigError(f"{key}={value}: no interpolation here; write it out")
    # Typed as an option of the group, of a stage, or as a name; a file's option of another name does not count.
    names = [given for name, given in typed.items() if ATTENTION.fullmatch(name)]
    if value in _list_downloaded() and value not in names:
        raise ConfigError(
            f"{key}={value}: it downloads compiled code and runs it, and only the command line may choose it; type "
            f"attention={value} if you trust that code, or choose a backend of an installed package"
        )


def _list_downloaded() -> list[str]:
    """Attention backends whose kernels are downloaded."""
    return [
        e.name for e in registry.list_entries() if e.group == "attention" and getattr(e.implementation, "hub", None)
    ]
